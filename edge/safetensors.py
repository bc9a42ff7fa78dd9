"""A safetensors file read tensor by tensor through a memory map: only what is used is held."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import ArtifactError, ModelMissingError

# Float types as stored; bfloat16 has no numpy type and is held as its bits.
FLOATS: Mapping[str, np.dtype[np.generic]] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(np.uint16),
}
_INTEGERS: Mapping[str, np.dtype[np.generic]] = {
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
}
_MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where a tensor lies. dtype: the file's own name, such as "BF16". begin, end: bytes."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """Values as stored. dtype "F32", "F16" or "BF16"; array holds the bits of a BF16 as uint16."""

    dtype: str
    array: NDArray[np.generic]

    def float32(self) -> NDArray[np.float32]:
        """The values as float32, exact; a view of the file where they are stored so."""
        return to_float32(self.array, self.dtype)


def to_float32(array: NDArray[np.generic], dtype: str) -> NDArray[np.float32]:
    """Stored values of one of FLOATS as float32."""
    if dtype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32, copy=False)


def from_float32(values: NDArray[np.float32], dtype: str) -> NDArray[np.generic]:
    """Round float32 values to one of FLOATS, to nearest even; bfloat16 as its bits."""
    if dtype != "BF16":
        return values.astype(FLOATS[dtype], copy=False)
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype(np.uint16)


class SafetensorsFile:
    """The header of one file and a map of its bytes."""

    def __init__(self, path: Path) -> None:
        """Read and check the header. Raises ModelMissingError, ArtifactError."""
        if not path.is_file():
            raise ModelMissingError(f"{path}: there is no such checkpoint")
        self.path = path
        self.size_bytes = path.stat().st_size
        self.entries, self._data_start = _read_header(path, self.size_bytes)
        self._map: NDArray[np.uint8] = (
            np.memmap(path, np.uint8, "r") if self.size_bytes else np.zeros(0, np.uint8)
        )

    def read(self, name: str) -> Tensor:
        """One tensor as a view of the file. Raises ArtifactError for a type that is no float."""
        entry = self.entries[name]
        if entry.dtype not in FLOATS:
            raise ArtifactError(
                f"{self.path.name}: {name} is {entry.dtype}, a quantized or integer type; "
                "want the float checkpoint (F32, F16 or BF16)"
            )
        raw = self._map[self._data_start + entry.begin : self._data_start + entry.end]
        return Tensor(entry.dtype, raw.view(FLOATS[entry.dtype]).reshape(entry.shape))

    def read_integers(self, name: str) -> NDArray[np.int64]:
        """A small integer tensor as int64, a copy. Raises ArtifactError for any other type."""
        entry = self.entries[name]
        if entry.dtype not in _INTEGERS:
            raise ArtifactError(f"{self.path.name}: {name} is {entry.dtype}, want integers")
        raw = self._map[self._data_start + entry.begin : self._data_start + entry.end]
        return raw.view(_INTEGERS[entry.dtype]).reshape(entry.shape).astype(np.int64)


def _read_header(path: Path, size_bytes: int) -> tuple[dict[str, TensorEntry], int]:
    """Entries by name and where the data starts. Raises ArtifactError."""
    broken = f"{path.name}: not a whole safetensors file"
    with path.open("rb") as file:
        head = file.read(8)
        n_bytes = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= n_bytes <= min(_MAX_HEADER_BYTES, size_bytes - 8):
            raise ArtifactError(f"{broken} (its header is cut short); fetch it again")
        text = file.read(n_bytes)
    try:
        raw = json.loads(text)
        entries = {
            name: TensorEntry(
                str(info["dtype"]),
                tuple(int(size) for size in info["shape"]),
                *(int(offset) for offset in info["data_offsets"]),
            )
            for name, info in raw.items()
            if name != "__metadata__"
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArtifactError(f"{broken} (its header cannot be read); fetch it again") from error
    room = size_bytes - 8 - n_bytes
    for name, entry in entries.items():
        known = FLOATS.get(entry.dtype) or _INTEGERS.get(entry.dtype)
        width = known.itemsize if known is not None else None
        n_data = entry.end - entry.begin
        if not 0 <= entry.begin <= entry.end <= room:
            raise ArtifactError(f"{broken} ({name} lies beyond its end); fetch it again")
        if width is not None and n_data != width * math.prod(entry.shape):
            raise ArtifactError(f"{broken} ({name} has {n_data} bytes for {entry.shape})")
    return entries, 8 + n_bytes
