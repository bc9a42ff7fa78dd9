"""The older form of llama.cpp's importance matrices, which its tools still make and read.

Source of the format: ggml-org/llama.cpp, common/imatrix-loader.cpp (MIT): for each tensor its name,
a number of calls, and sums of squared inputs that are to be divided by it.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelDamagedError, UsageError

Float32 = NDArray[np.float32]
_MAX_NAME_BYTES = 1 << 12
_MAX_VALUES = 1 << 28


def read_sums(path: Path) -> dict[str, tuple[Float32, int]]:
    """(sums, calls) by tensor. Raises ModelDamagedError, UsageError."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        return _parse(raw)
    except (struct.error, ValueError, UnicodeDecodeError) as error:
        raise ModelDamagedError(
            f"{path.name} is no whole importance matrix; make it with `edge quantize calibrate`"
        ) from error


def _parse(raw: bytes) -> dict[str, tuple[Float32, int]]:
    at = 0

    def take(layout: str) -> tuple[int, ...]:
        nonlocal at
        found = struct.unpack_from(layout, raw, at)
        at += struct.calcsize(layout)
        return found

    (n_tensors,) = take("<i")
    if n_tensors < 1:
        raise ValueError("tensors")
    found = {}
    for _ in range(n_tensors):
        (n_name,) = take("<i")
        if not 0 < n_name <= _MAX_NAME_BYTES:
            raise ValueError("name")
        name = raw[at : at + n_name].decode()
        at += n_name
        n_calls, n_values = take("<ii")
        if not 0 < n_values <= _MAX_VALUES or at + 4 * n_values > len(raw):
            raise ValueError("values")
        found[name] = (np.frombuffer(raw, np.float32, n_values, at).copy(), n_calls)
        at += 4 * n_values
    return found
