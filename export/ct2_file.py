"""A CTranslate2 model.bin read back: its tensors by name, as they lie in the file.

Layout, little-endian (OpenNMT/CTranslate2, python/ctranslate2/specs/model_spec.py): version, name
and revision of the model's spec, then each tensor with name, rank, sizes, type and bytes, then
aliases for tensors that are shared. Strings have a 16-bit length and end in a zero byte.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelDamagedError, ModelMissingError

_VERSIONS = (5, 6)
# bfloat16, the sixth, has no numpy type; its bits are widened below.
_TYPES = ("<f4", "<i1", "<i2", "<i4", "<f2", "<u2")
_BFLOAT16 = 5
_MAX_RANK = 8


@dataclass(frozen=True, slots=True)
class Ct2File:
    """spec: the kind of model, such as "WhisperSpec". tensors: by name, aliases resolved."""

    spec: str
    revision: int
    tensors: dict[str, NDArray[np.generic]]

    def float32(self, name: str) -> NDArray[np.float32]:
        """A weight as float32. Raises ModelDamagedError where it is missing or was quantized."""
        if name not in self.tensors:
            raise ModelDamagedError(f"this CTranslate2 model has no tensor {name!r}")
        value = self.tensors[name]
        if value.dtype.kind != "f":
            raise ModelDamagedError(
                f"{name} is stored as {value.dtype}: what rounding took away cannot be read back; "
                "use a model.bin with float32 or float16 weights"
            )
        return np.ascontiguousarray(value, np.float32)


def read_ct2(path: Path) -> Ct2File:
    """Read a whole model.bin. Raises ModelMissingError, ModelDamagedError (not one, cut short)."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelMissingError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        return _read(_Cursor(data))
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        raise ModelDamagedError(
            f"{path}: not a whole CTranslate2 model ({error}); fetch or convert it again"
        ) from error


def _read(data: _Cursor) -> Ct2File:
    version = data.number("I")
    if version not in _VERSIONS:
        raise ValueError(f"format version {version}, known are {_VERSIONS}")
    spec, revision = data.text(), data.number("I")
    tensors = dict(data.tensor() for _ in range(data.number("I")))
    for _ in range(data.number("I")):
        alias, name = data.text(), data.text()
        tensors[alias] = tensors.get(name, tensors.get(alias, np.empty(0, np.float32)))
    if data.at != len(data.raw):
        raise ValueError(f"{len(data.raw) - data.at} bytes too many")
    return Ct2File(spec, revision, tensors)


class _Cursor:
    """Reads one thing after another; never beyond the end."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.at = 0

    def take(self, n_bytes: int) -> bytes:
        part = self.raw[self.at : self.at + n_bytes]
        if len(part) < n_bytes:
            raise ValueError("it ends too early")
        self.at += n_bytes
        return part

    def number(self, kind: str) -> int:
        return int(struct.unpack("<" + kind, self.take(struct.calcsize(kind)))[0])

    def text(self) -> str:
        return self.take(self.number("H"))[:-1].decode()

    def tensor(self) -> tuple[str, NDArray[np.generic]]:
        name, rank = self.text(), self.number("B")
        if rank > _MAX_RANK:
            raise ValueError(f"{name} has {rank} dimensions")
        shape = tuple(self.number("I") for _ in range(rank))
        kind, n_bytes = self.number("B"), self.number("I")
        if kind >= len(_TYPES):
            raise ValueError(f"{name} has the unknown type {kind}")
        flat = np.frombuffer(self.take(n_bytes), _TYPES[kind])
        if kind == _BFLOAT16:
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        return name, flat.reshape(shape)
