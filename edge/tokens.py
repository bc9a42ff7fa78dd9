"""Token files: a codec's codes on disk, bit-packed, versioned and checksummed.

Layout, little-endian:

    bytes  what
    4      b"EDTK"
    1      format version, 1
    1      codes a frame, n
    2      zero
    4      bins: a code is 0 .. bins - 1 and takes b = ceil(log2(bins)) bits
    32     sha256 of the checkpoint that the codes belong to
    F * m  F frames of m = ceil(n * b / 8) bytes: the codes, coarsest first, each with its lowest
           bit first, packed without gaps; the rest of the last byte is zero
    8      length of the sound in samples at 24 kHz: the last frame may be partly padding
    4      CRC-32 of everything before it
    4      b"KTDE"

A frame is 80 ms: 8 codes of 2048 bins take 11 bytes, 1.1 kbit/s. A file without its last 16 bytes
was cut short.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edge.errors import ArtifactError, ShapeError
from edge.frame import FRAME_SAMPLES
from edge.whole_file import WholeFile

Codes = NDArray[np.int64]

VERSION = 1
_HEAD = struct.Struct("<4sBBHI32s")
_TAIL = struct.Struct("<QI4s")
_MAGIC, _END = b"EDTK", b"KTDE"
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class TokenHeader:
    """What a file's codes are. checkpoint: sha256 of the codec's checkpoint, 64 hex digits."""

    n_codebooks: int
    bins: int
    checkpoint: str

    def __post_init__(self) -> None:
        if not 1 <= self.n_codebooks <= 255 or not 2 <= self.bins < 2**32:
            raise ShapeError("token header", got=self, want="1-255 codebooks of at least 2 bins")

    @property
    def bits(self) -> int:
        """Bits of one code."""
        return (self.bins - 1).bit_length()

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame."""
        return -(-self.n_codebooks * self.bits // 8)

    @property
    def kbit_per_s(self) -> float:
        """Rate of the codes themselves at 12.5 frames a second."""
        return self.n_codebooks * self.bits * 12.5 / 1000


def pack(header: TokenHeader, codes: Codes) -> bytes:
    """One frame's codes, int64 (n_codebooks,), as bytes. Raises ShapeError."""
    if codes.shape != (header.n_codebooks,) or codes.dtype != np.int64:
        want = f"int64 ({header.n_codebooks},)"
        raise ShapeError("codes", got=f"{codes.dtype} {codes.shape}", want=want)
    if codes.min() < 0 or codes.max() >= header.bins:
        got = f"{codes.min()} .. {codes.max()}"
        raise ShapeError("codes", got=got, want=f"0 .. {header.bins - 1}")
    bits = (codes[:, None] >> np.arange(header.bits)) & 1
    return np.packbits(bits.astype(np.uint8).ravel(), bitorder="little").tobytes()


def unpack(header: TokenHeader, data: bytes) -> Codes:
    """The inverse of pack."""
    raw = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    bits = raw[: header.n_codebooks * header.bits].reshape(header.n_codebooks, header.bits)
    codes: Codes = (bits.astype(np.int64) << np.arange(header.bits)).sum(1)
    return codes


class TokenWriter:
    """Streams frames into a file that appears, whole, when the block ends well."""

    def __init__(self, path: Path, header: TokenHeader) -> None:
        """Raises EdgeError where the file cannot be written."""
        self.path, self.header = Path(path), header
        self.n_frames = 0
        self._n_samples = 0
        self._crc = 0
        self._file = WholeFile(self.path)
        head = (header.n_codebooks, 0, header.bins, bytes.fromhex(header.checkpoint))
        self._put(_HEAD.pack(_MAGIC, VERSION, *head))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if error is not None:
            self._file.abort()
            return
        self._put(struct.pack("<Q", self._n_samples))
        self._put(struct.pack("<I4s", self._crc, _END))
        self._file.close()

    def write(self, codes: Codes, n_samples: int = FRAME_SAMPLES) -> None:
        """Append a frame; n_samples: how much of it is sound, less than 1920 only in the last."""
        if not 0 < n_samples <= FRAME_SAMPLES or self._n_samples % FRAME_SAMPLES:
            raise ShapeError("frame", got=f"{n_samples} samples", want="1920 in all but the last")
        self._put(pack(self.header, codes))
        self.n_frames += 1
        self._n_samples += n_samples

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._crc = zlib.crc32(data, self._crc)


class TokenReader:
    """A token file, its checksum verified when it is opened; frames are read as they are asked for.

    n_frames: frames in it; n_samples: length of the sound.
    """

    def __init__(self, path: Path) -> None:
        """Raises ArtifactError: no such file, no token file, another version, cut or damaged."""
        self.path = Path(path)
        try:
            self.header, self.n_frames, self.n_samples = self._check()
        except OSError as error:
            raise ArtifactError(f"{path} cannot be read: {error.strerror}") from error

    def __iter__(self) -> Iterator[Codes]:
        """Every frame's codes, int64 (n_codebooks,), first to last."""
        width = self.header.frame_bytes
        with self.path.open("rb") as file:
            file.seek(_HEAD.size)
            for index in range(self.n_frames):
                codes = unpack(self.header, file.read(width))
                if codes.max() >= self.header.bins:
                    raise ArtifactError(f"{self.path} holds a code too large in frame {index}")
                yield codes

    def _check(self) -> tuple[TokenHeader, int, int]:
        size_bytes = self.path.stat().st_size
        with self.path.open("rb") as file:
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size or head[:4] != _MAGIC:
                raise ArtifactError(f"{self.path} is no token file")
            _, version, n_codebooks, _, bins, checkpoint = _HEAD.unpack(head)
            if version != VERSION:
                raise ArtifactError(
                    f"{self.path} has format version {version}, this edgevoice reads {VERSION}; "
                    "update edgevoice"
                )
            crc, left = zlib.crc32(head), size_bytes - _HEAD.size - _TAIL.size
            while left > 0:
                block = file.read(min(left, _BLOCK_BYTES))
                if not block:
                    break
                crc, left = zlib.crc32(block, crc), left - len(block)
            tail = file.read(_TAIL.size)
        cut = f"{self.path} is cut short or damaged; encode or copy it again"
        if left != 0 or len(tail) != _TAIL.size or tail[-4:] != _END:
            raise ArtifactError(cut)
        n_samples, want_crc, _ = _TAIL.unpack(tail)
        if zlib.crc32(tail[:8], crc) != want_crc or not n_codebooks or bins < 2:
            raise ArtifactError(cut)
        header = TokenHeader(n_codebooks, bins, checkpoint.hex())
        n_frames, odd = divmod(size_bytes - _HEAD.size - _TAIL.size, header.frame_bytes)
        if odd or n_frames != -(-n_samples // FRAME_SAMPLES):
            raise ArtifactError(cut)
        return header, n_frames, n_samples
