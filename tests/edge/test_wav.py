"""Sound files: whatever comes in becomes the same frames; whatever goes out is whole or absent."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import AudioFileError, EdgeError, ShapeError, UsageError
from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm
from edge.wav import Resampler, WavWriter, open_audio, read_mono


def _tone(n_samples: int, rate_hz: int, *, hz: float = 440.0) -> Pcm:
    return (0.4 * np.sin(2 * np.pi * hz * np.arange(n_samples) / rate_hz)).astype(np.float32)


def _noise(n_samples: int, seed: int = 0) -> Pcm:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(n_samples)).astype(np.float32)


def _wav_bytes(pcm: Pcm, *, declared: int | None = None, tail: bytes = b"") -> bytes:
    """A 16-bit mono WAV at 24 kHz by hand, so that its header may lie."""
    data = np.round(pcm * 32_768).clip(-32_768, 32_767).astype("<i2").tobytes()
    size = len(data) if declared is None else declared
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, SAMPLE_RATE_HZ, SAMPLE_RATE_HZ * 2, 2, 16)
    body = b"WAVE" + fmt + struct.pack("<4sI", b"data", size) + data + tail
    return b"RIFF" + struct.pack("<I", min(len(body), 0xFFFF_FFFF)) + body


def _frames(path: Path) -> Pcm:
    with open_audio(path) as reader:
        return np.concatenate(list(reader))


# --- resampling ---------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    rates_hz=st.sampled_from(
        [(16_000, 24_000), (44_100, 24_000), (24_000, 16_000), (8_000, 8_000)]
    ),
    cuts=st.lists(st.integers(0, 6_000), max_size=12),
)
def test_resampling_in_pieces_equals_resampling_whole(
    rates_hz: tuple[int, int], cuts: list[int]
) -> None:
    pcm = _noise(6_000)
    whole = Resampler(*rates_hz).push(pcm, last=True)
    pieces, stream = np.split(pcm, sorted(cuts)), Resampler(*rates_hz)
    parts = [stream.push(piece, last=i == len(pieces) - 1) for i, piece in enumerate(pieces)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("src_hz", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_resampling_keeps_length_pitch_and_level(src_hz: int) -> None:
    out = Resampler(src_hz, SAMPLE_RATE_HZ).push(_tone(src_hz, src_hz), last=True)
    assert abs(len(out) - SAMPLE_RATE_HZ) <= 1
    want = _tone(len(out), SAMPLE_RATE_HZ)
    middle = slice(2_400, -2_400)
    assert float(np.abs(out[middle] - want[middle]).max()) < 1e-3


def test_a_resampler_refuses_what_it_cannot_convert() -> None:
    with pytest.raises(UsageError, match="1 Hz cannot be converted"):
        Resampler(1, SAMPLE_RATE_HZ)
    stream = Resampler(16_000, SAMPLE_RATE_HZ)
    with pytest.raises(ShapeError, match="float32"):
        stream.push(np.zeros(10, np.float64))
    stream.push(np.zeros(10, np.float32), last=True)
    with pytest.raises(UsageError, match="last piece"):
        stream.push(np.zeros(10, np.float32))


# --- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subtype", "name", "step"),
    [
        ("PCM_U8", "a.wav", 2**-7),
        ("PCM_16", "a.wav", 2**-15),
        ("PCM_24", "a.wav", 2**-23),
        ("PCM_32", "a.wav", 2**-23),
        ("FLOAT", "a.wav", 2**-23),
        ("DOUBLE", "a.wav", 2**-23),
        ("PCM_16", "a.flac", 2**-15),
        ("PCM_24", "a.flac", 2**-23),
        ("PCM_16", "a.aiff", 2**-15),
    ],
)
def test_every_width_gives_the_same_sound(
    tmp_path: Path, subtype: str, name: str, step: float
) -> None:
    path, pcm = tmp_path / name, _tone(5_000, SAMPLE_RATE_HZ)
    soundfile.write(path, pcm, SAMPLE_RATE_HZ, subtype=subtype)
    got = _frames(path)
    assert len(got) == 3 * FRAME_SAMPLES
    assert float(np.abs(got[:5_000] - pcm).max()) <= step
    assert not got[5_000:].any()


def test_channels_are_averaged_and_rates_converted(tmp_path: Path) -> None:
    path, pcm = tmp_path / "seven.wav", _tone(96_000, 96_000)
    weights = np.arange(7, dtype=np.float32) / 6  # mean 0.5
    soundfile.write(path, pcm[:, None] * weights, 96_000, subtype="PCM_24")
    with open_audio(path) as reader:
        assert (reader.n_channels, reader.sample_rate_hz, reader.duration_s) == (7, 96_000, 1.0)
        frames = list(reader)
    assert {(frame.shape, frame.dtype.name) for frame in frames} == {((FRAME_SAMPLES,), "float32")}
    got, want = np.concatenate(frames)[:24_000], 0.5 * _tone(24_000, SAMPLE_RATE_HZ)
    assert float(np.abs(got - want)[500:-500].max()) < 1e-3


@pytest.mark.parametrize("rate_hz", [16_000, 24_000, 44_100])
def test_reading_in_blocks_equals_converting_the_whole(tmp_path: Path, rate_hz: int) -> None:
    path, pcm = tmp_path / "a.wav", _noise(100_003)
    soundfile.write(path, pcm, rate_hz, subtype="FLOAT")
    whole = Resampler(rate_hz, SAMPLE_RATE_HZ).push(pcm, last=True)
    got = _frames(path)
    assert len(got) % FRAME_SAMPLES == 0
    np.testing.assert_array_equal(got[: len(whole)], whole)
    assert not got[len(whole) :].any()
    np.testing.assert_array_equal(read_mono(path, SAMPLE_RATE_HZ), whole)


def test_a_frame_belongs_to_the_caller(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, _noise(9_600), SAMPLE_RATE_HZ, subtype="FLOAT")
    want = _frames(path)
    with open_audio(path) as reader:
        got = []
        for frame in reader:
            got.append(frame.copy())
            frame[:] = 9.0
    np.testing.assert_array_equal(np.concatenate(got), want)


def test_nothing_follows_after_the_reader_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, _noise(9_600), SAMPLE_RATE_HZ)
    with open_audio(path) as reader:
        next(reader)
    reader.close()
    assert list(reader) == []


def test_float_files_are_clipped_to_full_scale(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.full(1_920, 3.0, np.float32), SAMPLE_RATE_HZ, subtype="FLOAT")
    np.testing.assert_array_equal(_frames(path), np.ones(1_920, np.float32))


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak_bytes(n_s: int) -> int:
        path = tmp_path / f"{n_s}.wav"
        with path.open("wb") as file:  # silence, sparse on the disk
            file.write(_wav_bytes(np.zeros(0, np.float32), declared=n_s * 48_000))
            file.truncate(44 + n_s * 48_000)
        tracemalloc.start()
        with open_audio(path) as reader:
            n_frames = sum(1 for _ in reader)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert n_frames == n_s * 25 // 2
        return peak

    peak_bytes(2)
    assert peak_bytes(40) < 1.1 * peak_bytes(4)


# --- streamed headers ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 0x7FFF_F000, 0x7FFF_FFFF - 36, 0x8000_0000, 0xFFFF_FFFF])
def test_a_size_that_was_never_filled_in_means_to_the_end(tmp_path: Path, size: int) -> None:
    pcm = _tone(4_801, SAMPLE_RATE_HZ)
    streamed, whole = tmp_path / "streamed.wav", tmp_path / "whole.wav"
    streamed.write_bytes(_wav_bytes(pcm, declared=size))
    whole.write_bytes(_wav_bytes(pcm))
    with open_audio(streamed) as reader:
        assert reader.duration_s == 4_801 / SAMPLE_RATE_HZ
        got = np.concatenate(list(reader))
    np.testing.assert_array_equal(got, _frames(whole))


def test_a_flac_without_its_length_is_read_to_the_end(tmp_path: Path) -> None:
    path, pcm = tmp_path / "a.flac", _tone(48_000, SAMPLE_RATE_HZ)
    soundfile.write(path, pcm, SAMPLE_RATE_HZ, subtype="PCM_24")
    want, raw = _frames(path), bytearray(path.read_bytes())
    # STREAMINFO: the low 36 bits at byte 18 are the number of samples; 0 is "unknown".
    raw[18:26] = (int.from_bytes(raw[18:26], "big") & ~(2**36 - 1)).to_bytes(8, "big")
    path.write_bytes(raw)
    with open_audio(path) as reader:
        assert reader.duration_s is None
        np.testing.assert_array_equal(np.concatenate(list(reader)), want)


def test_more_than_a_wav_can_count_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.wav"
    with path.open("wb") as file:  # sparse
        file.write(_wav_bytes(np.zeros(0, np.float32), declared=2**32 - 1))
        file.truncate(2**32 + 1_000)
    with pytest.raises(AudioFileError, match="more than the 4 GiB"):
        open_audio(path)


# --- files that cannot be used ------------------------------------------------------------------


_LIST = struct.pack("<4sI", b"LIST", 4) + b"INFO"
BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "text": (b"this is not sound at all\n" * 40, "cannot be read as sound"),
    "half a header": (_wav_bytes(_tone(100, 24_000))[:20], "cannot be read as sound"),
    "no data chunk": (_wav_bytes(_tone(100, 24_000))[:36], "cannot be read as sound"),
    "header only": (_wav_bytes(np.zeros(0, np.float32)), "holds no sound"),
    "no samples, then a comment": (_wav_bytes(np.zeros(0, np.float32), tail=_LIST), "no sound"),
    "streamed, no samples": (_wav_bytes(np.zeros(0, np.float32), declared=2**32 - 1), "no sound"),
    "promised more": (_wav_bytes(_tone(100, 24_000), declared=9_000), "promises 9000 bytes"),
    "promised, none there": (_wav_bytes(np.zeros(0, np.float32), declared=9_000), "truncated"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_gives_one_clear_line(tmp_path: Path, case: str) -> None:
    raw, says = BROKEN[case]
    path = tmp_path / "input.wav"
    path.write_bytes(raw)
    with pytest.raises(AudioFileError, match=says) as caught:
        _frames(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match="is not there"):
        open_audio(tmp_path / "missing.wav")
    with pytest.raises(AudioFileError, match="is a folder"):
        open_audio(tmp_path)
    with pytest.raises(AudioFileError, match="not an ordinary file"):
        open_audio(Path("/dev/null"))


@pytest.mark.parametrize("n_kept", [0.5, 0.9])
def test_a_truncated_flac_is_noticed_when_reading_gets_there(tmp_path: Path, n_kept: float) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, _noise(48_000), SAMPLE_RATE_HZ)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * n_kept)])
    with pytest.raises(AudioFileError, match="truncated"):
        _frames(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_a_sample_that_is_no_number_is_located(
    tmp_path: Path, value: float, n_channels: int
) -> None:
    pcm = np.zeros((48_000, n_channels), np.float32)
    pcm[36_000, n_channels - 1] = value
    path = tmp_path / "a.wav"
    soundfile.write(path, pcm, SAMPLE_RATE_HZ, subtype="FLOAT")
    with pytest.raises(AudioFileError, match=r"at 1\.500 s"):
        _frames(path)


def test_an_impossible_rate_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, _noise(100), 3)
    with pytest.raises(AudioFileError, match="3 samples a second"):
        open_audio(path)


# --- writing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("cuts", [[], [1, 1_920, 1_921, 5_000]])
def test_what_was_written_is_read_back(tmp_path: Path, n_channels: int, cuts: list[int]) -> None:
    path = tmp_path / "out.wav"
    pcm = _noise(6_000 * n_channels).reshape(-1, n_channels)
    pcm = pcm[:, 0] if n_channels == 1 else pcm
    with WavWriter(path, n_channels) as writer:
        for piece in np.split(pcm, cuts):
            writer.write(piece)
        assert not path.exists()
    assert writer.n_samples == 6_000
    got, rate_hz = soundfile.read(path, dtype="float32")
    assert (rate_hz, soundfile.info(path).subtype) == (SAMPLE_RATE_HZ, "PCM_16")
    assert got.shape == pcm.shape
    assert float(np.abs(got - pcm).max()) <= 2**-16
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.wav"]


def test_writing_clips_to_full_scale(tmp_path: Path) -> None:
    with WavWriter(tmp_path / "out.wav") as writer:
        writer.write(np.array([7.0, -7.0, 1.0, -1.0], np.float32))
    got, _ = soundfile.read(tmp_path / "out.wav", dtype="int16")
    assert got.tolist() == [32_767, -32_768, 32_767, -32_768]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_writer_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def write() -> None:
        with WavWriter(tmp_path / "out.wav") as writer:
            writer.write(_noise(5_000))
            raise error

    with pytest.raises(error):
        write()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_writer_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    path.write_bytes(b"older")
    writer = WavWriter(path)
    writer.write(_noise(5_000))
    writer.abort()
    writer.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.wav"]
    assert path.read_bytes() == b"older"


def test_a_writer_refuses_what_is_not_sound(tmp_path: Path) -> None:
    writer = WavWriter(tmp_path / "out.wav", n_channels=2)
    with pytest.raises(ShapeError, match="float32"):
        writer.write(_noise(100))
    with pytest.raises(AudioFileError, match="NaN"):
        writer.write(np.full((10, 2), np.nan, np.float32))
    with pytest.raises(AudioFileError, match="closed"):
        writer.write(np.zeros((10, 2), np.float32))
    assert list(tmp_path.iterdir()) == []


def test_a_writer_makes_no_folders(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="create it first"):
        WavWriter(tmp_path / "missing" / "out.wav")
    assert list(tmp_path.iterdir()) == []


def test_closing_twice_is_closing_once(tmp_path: Path) -> None:
    writer = WavWriter(tmp_path / "out.wav")
    writer.close()
    before = (tmp_path / "out.wav").read_bytes()
    writer.close()
    writer.abort()
    assert (tmp_path / "out.wav").read_bytes() == before
    assert len(before) == 44
