"""Reading a CTranslate2 model file: names, shapes and numbers, whatever they are stored as.

Source of the format: OpenNMT/CTranslate2, python/ctranslate2/specs/model_spec.py (MIT), version 6.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelDamagedError, UsageError

Float32 = NDArray[np.float32]

_VERSION = 6
_TYPES: Mapping[int, type[np.generic]] = {
    0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16,
}  # fmt: skip


def read_ct2(path: Path) -> tuple[str, dict[str, NDArray[np.generic]]]:
    """The kind of model ("WhisperSpec") and its arrays by name, aliases resolved.

    Raises ModelDamagedError for another file, or one that is cut short.
    """
    raw = path.read_bytes()
    try:
        return _parse(raw)
    except (struct.error, ValueError, KeyError, UnicodeDecodeError) as error:
        raise ModelDamagedError(
            f"{path.name}: no CTranslate2 model of format {_VERSION}, or cut short; fetch it again"
        ) from error


def float_array(arrays: Mapping[str, NDArray[np.generic]], name: str) -> Float32:
    """One array as floats. Raises UsageError where it is stored in integers, with a scale."""
    if name not in arrays:
        raise UsageError(f"this model has no {name}; is it a Whisper model?")
    found = arrays[name]
    if found.dtype not in (np.float32, np.float16):
        raise UsageError(
            f"{name} is stored as {found.dtype}: what rounding took away cannot be read back; "
            "give a float16 or float32 model"
        )
    return np.asarray(found, np.float32)


def _parse(raw: bytes) -> tuple[str, dict[str, NDArray[np.generic]]]:
    at = 0

    def take(layout: str) -> tuple[int, ...]:
        nonlocal at
        found = struct.unpack_from(layout, raw, at)
        at += struct.calcsize(layout)
        return found

    def text() -> str:
        nonlocal at
        (n,) = take("<H")
        found = raw[at : at + n - 1].decode()
        at += n
        return found

    (version,) = take("<I")
    if version != _VERSION:
        raise ValueError("version")
    kind = text()
    take("<I")
    arrays: dict[str, NDArray[np.generic]] = {}
    (n_arrays,) = take("<I")
    for _ in range(n_arrays):
        name = text()
        (rank,) = take("<B")
        shape = take(f"<{rank}I")
        (dtype,) = take("<B")
        (n_bytes,) = take("<I")
        if at + n_bytes > len(raw):
            raise ValueError("cut short")
        values = np.frombuffer(raw[at : at + n_bytes], _TYPES[dtype])
        arrays[name] = values.reshape(shape)
        at += n_bytes
    (n_aliases,) = take("<I")
    for _ in range(n_aliases):
        alias, name = text(), text()
        arrays[alias] = arrays[name]
    return kind, arrays
