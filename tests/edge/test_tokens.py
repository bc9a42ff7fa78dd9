"""Token files: codes come back, and damage is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ArtifactError, ShapeError
from edge.tokens import TokenHeader, TokenReader, TokenWriter, pack, unpack

SHA = "0123456789abcdef" * 4
MIMI = TokenHeader(8, 2048, SHA)


@given(st.integers(1, 40), st.integers(2, 100_000), st.data())
def test_a_frame_comes_back(n_codebooks: int, bins: int, data: st.DataObject) -> None:
    header = TokenHeader(n_codebooks, bins, SHA)
    codes = data.draw(
        st.lists(st.integers(0, bins - 1), min_size=n_codebooks, max_size=n_codebooks)
    )
    packed = pack(header, np.array(codes, np.int64))
    assert len(packed) == header.frame_bytes
    assert unpack(header, packed).tolist() == codes


def test_the_published_codec_takes_eleven_bytes_a_frame() -> None:
    assert MIMI.frame_bytes == 11
    assert MIMI.kbit_per_s == pytest.approx(1.1)


def test_bits_are_packed_lowest_first() -> None:
    header = TokenHeader(3, 16, SHA)
    assert pack(header, np.array([1, 2, 15], np.int64)) == bytes([0x21, 0x0F])


def _write(path: Path, n_frames: int, last: int = 1920) -> np.ndarray:
    codes = np.random.default_rng(0).integers(0, 2048, (n_frames, 8))
    with TokenWriter(path, MIMI) as out:
        for index, frame in enumerate(codes):
            out.write(frame, last if index == n_frames - 1 else 1920)
    return codes


def _write_frames(path: Path, frames: list[np.ndarray], n_samples: int) -> None:
    with TokenWriter(path, MIMI) as out:
        for frame in frames:
            out.write(frame, n_samples)


@pytest.mark.parametrize("n_frames", [0, 1, 300])
def test_a_file_comes_back(tmp_path: Path, n_frames: int) -> None:
    codes = _write(tmp_path / "a.tokens", n_frames, last=5)
    read = TokenReader(tmp_path / "a.tokens")
    assert read.header == MIMI
    assert (read.n_frames, read.n_samples) == (n_frames, max(0, n_frames * 1920 - 1915))
    assert [frame.tolist() for frame in read] == codes.tolist()
    assert (tmp_path / "a.tokens").stat().st_size == 44 + 11 * n_frames + 16


def test_every_cut_and_every_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.tokens"
    _write(path, 3)
    raw = path.read_bytes()
    for at in range(len(raw)):
        path.write_bytes(raw[:at])
        with pytest.raises(ArtifactError):
            TokenReader(path)
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 8]) + raw[at + 1 :])
        with pytest.raises(ArtifactError):
            TokenReader(path)


def test_an_error_while_writing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="2047"):
        _write_frames(tmp_path / "a.tokens", [np.zeros(8, np.int64), np.full(8, 2048)], 1920)
    assert list(tmp_path.iterdir()) == []


def test_only_the_last_frame_may_be_short(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="last"):
        _write_frames(tmp_path / "a.tokens", [np.zeros(8, np.int64)] * 2, 100)


def test_another_version_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.tokens"
    _write(path, 1)
    raw = bytearray(path.read_bytes())
    raw[4] = 9
    path.write_bytes(raw)
    with pytest.raises(ArtifactError, match="version 9"):
        TokenReader(path)


def test_what_is_no_token_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.tokens").write_bytes(b"RIFF" + bytes(100))
    with pytest.raises(ArtifactError, match="no token file"):
        TokenReader(tmp_path / "a.tokens")
    with pytest.raises(ArtifactError, match="cannot be read"):
        TokenReader(tmp_path / "absent.tokens")
