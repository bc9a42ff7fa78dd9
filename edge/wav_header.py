"""What a WAV or AIFF header promises: where its samples begin and how many bytes they take."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

# Whoever writes to a pipe cannot come back to fill in the size. What stands there instead is 0 or
# about the largest number the writer thought of: 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF.
_STREAMED_FROM_BYTES = 0x7FFF_0000
MAX_SIZE_BYTES = 0xFFFF_FFFF
_TO_THE_END = b"\xff\xff\xff\xff"  # read alike in both byte orders


@dataclass(frozen=True, slots=True)
class DataChunk:
    """The chunk that holds the samples.

    size_at: file position of its 4-byte size. declared_bytes: what that size says.
    present_bytes: what follows in the file. streamed: the size was never filled in.
    """

    size_at: int
    declared_bytes: int
    present_bytes: int
    streamed: bool

    @property
    def missing_bytes(self) -> int:
        """What was promised and is not there; 0 for a whole file and for a streamed one."""
        return 0 if self.streamed else max(0, self.declared_bytes - self.present_bytes)


def find_data(file: BinaryIO, file_bytes: int) -> DataChunk | None:
    """Walk the chunks of a RIFF (WAV), RIFX, RF64 or FORM (AIFF) file to the one with the samples.

    None where it is another format, or where the chunks lead nowhere. Moves the file's position.
    """
    file.seek(0)
    head = file.read(12)
    kinds = {b"RIFF": "little", b"RF64": "little", b"RIFX": "big", b"FORM": "big"}
    if len(head) < 12 or head[:4] not in kinds or head[8:12] not in (b"WAVE", b"AIFF", b"AIFC"):
        return None
    little = kinds[head[:4]] == "little"
    at, big_bytes = 12, 0
    while at + 8 <= file_bytes:
        file.seek(at)
        name, size = file.read(4), _number(file.read(4), little=little)
        if name in (b"data", b"SSND"):
            present = file_bytes - at - 8
            if head[:4] == b"RF64" and size == MAX_SIZE_BYTES and big_bytes:
                return DataChunk(at + 4, big_bytes, present, streamed=False)
            streamed = size == MAX_SIZE_BYTES or (size >= _STREAMED_FROM_BYTES and size > present)
            if size == 0 and present > 0:
                streamed = not _is_chunks(file, at + 8, file_bytes, little=little)
            return DataChunk(at + 4, size, present, streamed)
        if name == b"ds64":
            # RF64 keeps the sizes that need 64 bits here: the file's, then the data's.
            big_bytes = int.from_bytes(file.read(16)[8:], "little")
        at += 8 + size + size % 2
    return None


def open_unfilled(path: Path, chunk: DataChunk) -> io.RawIOBase:
    """The file with 'to the end' in place of a size that was never filled in."""
    return _Overlaid(path, chunk.size_at, _TO_THE_END)


def _is_chunks(file: BinaryIO, at: int, file_bytes: int, *, little: bool) -> bool:
    """Whether the rest of the file is whole, named chunks, thus not samples without a size."""
    while at + 8 <= file_bytes:
        file.seek(at)
        name, size = file.read(4), _number(file.read(4), little=little)
        if not (name.isascii() and name.decode("ascii").isprintable()):
            return False
        at += 8 + size + size % 2
    return at in (file_bytes, file_bytes + 1)


def _number(raw: bytes, *, little: bool) -> int:
    return int.from_bytes(raw, "little" if little else "big")


class _Overlaid(io.RawIOBase):
    """A file read as if some of its bytes were others; nothing is written, nothing is copied."""

    def __init__(self, path: Path, at: int, patch: bytes) -> None:
        self._file = path.open("rb")
        self._at, self._patch = at, patch

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        start = self._file.tell()
        n_bytes = self._file.readinto(view)
        for i, byte in enumerate(self._patch):
            if 0 <= self._at + i - start < n_bytes:
                view[self._at + i - start] = byte
        return n_bytes

    def close(self) -> None:
        self._file.close()
        super().close()
