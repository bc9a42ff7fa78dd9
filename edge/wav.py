"""Sound files: any WAV or FLAC in as 24 kHz mono frames; 16-bit WAV out by WavWriter."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np

from edge.errors import AudioFileError
from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm
from edge.resample import MAX_RATE_HZ, MIN_RATE_HZ, Resampler
from edge.wav_header import MAX_SIZE_BYTES, find_data, open_unfilled
from edge.wav_writer import WavWriter

__all__ = ["AudioReader", "Resampler", "WavWriter", "open_audio", "read_mono"]

# Samples of all channels read at once: small enough to be quick inside a frame.
_BLOCK_SAMPLES = 32_768
# An MP3's length is known to its encoder's padding only: up to four of its own blocks.
_MP3_SLACK_SAMPLES = 4 * 1_152
# What libsndfile says where a header does not tell the length.
_UNKNOWN_SAMPLES = 2**62


def open_audio(path: Path) -> AudioReader:
    """Open a sound file of any rate, width and channel count (WAV, FLAC, what libsndfile reads).

    A truncated WAV or AIFF is refused here, damage further inside when the reading gets there.
    Raises AudioFileError.
    """
    return AudioReader(path)


def read_mono(path: Path, rate_hz: int) -> Pcm:
    """A short clip as a whole: float32 (n,), mono, at rate_hz, [-1, 1]. Raises AudioFileError."""
    with AudioReader(path) as reader:
        return np.concatenate(list(reader.pieces(rate_hz)))


class AudioReader:
    """A sound file as frames, float32 (1920,) at 24 kHz in [-1, 1], the last one filled with zeros.

    Channels are averaged; memory stays flat however long the file is. It is read once, front to
    back; each frame is the caller's own array.

    path: the file. sample_rate_hz, n_channels: as stored in it.
    duration_s: None for the rare stream whose header does not tell.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        with ExitStack() as files:
            self._sound: Any = _open_sound(self.path, files)
            self._files = files.pop_all()
        self.sample_rate_hz: int = self._sound.samplerate
        self.n_channels: int = self._sound.channels
        self._n_samples: int | None = self._sound.frames
        if self._sound.frames >= _UNKNOWN_SAMPLES:
            self._n_samples = None
        self.duration_s = None if self._n_samples is None else self._n_samples / self.sample_rate_hz
        self._frames = self._cut()
        try:
            self._check_header()
        except AudioFileError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Pcm]:
        return self

    def __next__(self) -> Pcm:
        return next(self._frames)

    def close(self) -> None:
        """Let go of the file; no frames follow. Safe to call twice."""
        self._frames.close()
        self._files.close()

    def pieces(self, rate_hz: int) -> Iterator[Pcm]:
        """The sound at another rate, float32 (n,) mono of changing n; instead of the frames."""
        resampler = Resampler(self.sample_rate_hz, rate_hz)
        for block in self._blocks():
            yield np.clip(resampler.push(block), -1.0, 1.0)
        yield np.clip(resampler.push(np.zeros(0, np.float32), last=True), -1.0, 1.0)

    def _cut(self) -> Generator[Pcm]:
        rest = np.zeros(0, np.float32)
        for piece in self.pieces(SAMPLE_RATE_HZ):
            rest = np.concatenate([rest, piece])
            n_whole = len(rest) - len(rest) % FRAME_SAMPLES
            for start in range(0, n_whole, FRAME_SAMPLES):
                yield rest[start : start + FRAME_SAMPLES].copy()
            rest = rest[n_whole:]
        if len(rest):
            yield np.pad(rest, (0, FRAME_SAMPLES - len(rest)))

    def _blocks(self) -> Iterator[Pcm]:
        """The file at its own rate, float32 (n,) mono, checked."""
        n_read = 0
        while True:
            block = self._read_block(n_read)
            if not len(block):
                break
            yield block
            n_read += len(block)
        slack = _MP3_SLACK_SAMPLES if self._sound.format == "MP3" else 0
        if self._n_samples is not None and n_read + slack < self._n_samples:
            raise AudioFileError(
                f"{self.path} is truncated: it ends after {n_read / self.sample_rate_hz:.2f} s of "
                f"{self.duration_s:.2f} s; copy or record it again"
            )
        if n_read == 0:
            raise AudioFileError(f"{self.path} holds no sound, only a header; record it again")

    def _read_block(self, n_read: int) -> Pcm:
        n_wanted = max(1, _BLOCK_SAMPLES // self.n_channels)
        try:
            block: Pcm = self._sound.read(n_wanted, dtype="float32", always_2d=True)
        except RuntimeError as error:
            raise AudioFileError(
                f"{self.path} is truncated or damaged near {n_read / self.sample_rate_hz:.2f} s "
                f"({_reason(error)}); copy or record it again"
            ) from error
        # NaN in any channel, or infinities of both signs, make the mean what the check looks for.
        with np.errstate(all="ignore"):
            mono = block[:, 0] if self.n_channels == 1 else block.mean(axis=1, dtype=np.float32)
        bad = ~np.isfinite(mono)
        if bad.any():
            at_s = (n_read + int(bad.argmax())) / self.sample_rate_hz
            raise AudioFileError(
                f"{self.path} holds a sample that is not a number (NaN or infinite) at "
                f"{at_s:.3f} s; make the file again"
            )
        return mono

    def _check_header(self) -> None:
        if self._n_samples == 0:
            raise AudioFileError(f"{self.path} holds no sound, only a header; record it again")
        if not MIN_RATE_HZ <= self.sample_rate_hz <= MAX_RATE_HZ:
            raise AudioFileError(
                f"{self.path} claims {self.sample_rate_hz} samples a second; "
                f"{MIN_RATE_HZ} to {MAX_RATE_HZ} can be used"
            )


def _open_sound(path: Path, files: ExitStack) -> Any:
    """A soundfile.SoundFile to read front to back, closed by `files`. Raises AudioFileError."""
    try:
        if path.is_dir():
            raise AudioFileError(f"{path} is a folder; name a sound file in it")
        if path.exists() and not path.is_file():
            raise AudioFileError(f"{path} is not an ordinary file; name a WAV or FLAC file")
        with path.open("rb") as file:
            n_bytes = path.stat().st_size
            if n_bytes == 0:
                raise AudioFileError(f"{path} is empty (0 bytes); copy or record it again")
            data = find_data(file, n_bytes)
    except FileNotFoundError as error:
        raise AudioFileError(f"{path} is not there; check the name") from error
    except OSError as error:
        raise AudioFileError(f"{path} cannot be opened: {error.strerror or error}") from error
    if data is not None and data.missing_bytes:
        raise AudioFileError(
            f"{path} is truncated: its header promises {data.declared_bytes} bytes of sound and "
            f"{data.present_bytes} are there; copy or record it again"
        )
    if data is not None and data.streamed and data.present_bytes > MAX_SIZE_BYTES:
        raise AudioFileError(
            f"{path} holds more than the 4 GiB that a WAV can count; cut it, or convert it to FLAC"
        )
    import soundfile

    try:
        source: Any = str(path)
        if data is not None and data.streamed:
            source = files.enter_context(open_unfilled(path, data))
        sound = files.enter_context(soundfile.SoundFile(source))
    except (RuntimeError, TypeError, ValueError) as error:
        raise AudioFileError(
            f"{path} cannot be read as sound ({_reason(error)}); use a WAV or FLAC file"
        ) from error
    # Else soundfile seeks after every read, which some streams cannot do and none needs here.
    sound.seekable = lambda: False
    return sound


def _reason(error: Exception) -> str:
    """What libsndfile found, without the file's name and the full stop."""
    return str(getattr(error, "error_string", error)).strip().rstrip(".")
