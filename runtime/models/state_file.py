"""Named arrays in one checked file: how a stream's state outlives its process.

The layout is that of safetensors (a JSON header, then the raw arrays), so that other tools can look
into it; the header's metadata carries a kind, the model's fingerprint and the data's sha256.
Nothing in it is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.atomic import write_bytes
from edge.errors import ArtifactError

Array = NDArray[Any]

_NAMES = {"float32": "F32", "float16": "F16", "int64": "I64", "int16": "I16", "uint8": "U8"}
_DTYPES = {name: np.dtype(dtype) for dtype, name in _NAMES.items()}
_AGAIN = "start a new state"


def write_arrays(path: Path, kind: str, model: str, arrays: Mapping[str, Array]) -> None:
    """Write arrays all or nothing. kind: what they are; model: fingerprint of what they fit.

    Raises EdgeError where the file cannot be written.
    """
    header: dict[str, Any] = {}
    parts, end = [], 0
    for name, array in arrays.items():
        data = np.ascontiguousarray(array).tobytes()
        spot = [end, end := end + len(data)]
        dtype = _NAMES[str(array.dtype)]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": spot}
        parts.append(data)
    body = b"".join(parts)
    sha256 = hashlib.sha256(body).hexdigest()
    header["__metadata__"] = {"kind": kind, "model": model, "sha256": sha256}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    write_bytes(path, struct.pack("<Q", len(text)) + text + body)


def read_arrays(path: Path, kind: str, model: str) -> dict[str, Array]:
    """Read what write_arrays wrote for the same kind and model.

    Raises ArtifactError: no such file, cut short, damaged, of another kind or another model.
    """
    try:
        raw = path.read_bytes()
    except OSError as exc:
        raise ArtifactError(f"{path} cannot be read: {exc.strerror}; {_AGAIN}") from exc
    try:
        n_bytes = struct.unpack("<Q", raw[:8])[0]
        header = json.loads(raw[8 : 8 + n_bytes])
        metadata = header.pop("__metadata__")
        body = raw[8 + n_bytes :]
        found = {name: _array(body, entry) for name, entry in header.items()}
        about = [str(metadata[name]) for name in ("kind", "model", "sha256")]
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ArtifactError(f"{path} is no saved state, or is cut short; {_AGAIN}") from exc
    if about[2] != hashlib.sha256(body).hexdigest():
        raise ArtifactError(f"{path} is damaged: its sha256 differs; {_AGAIN}")
    if about[0] != kind:
        raise ArtifactError(f"{path} holds a {about[0]}, not a {kind}; {_AGAIN}")
    if about[1] != model:
        raise ArtifactError(
            f"{path} was saved by another model ({about[1][:12]}..., this is {model[:12]}...); "
            f"open that model, or {_AGAIN}"
        )
    return found


def _array(body: bytes, entry: Mapping[str, Any]) -> Array:
    """One array of the body. Raises ValueError or KeyError where its entry is wrong."""
    begin, end = entry["data_offsets"]
    shape, dtype = tuple(entry["shape"]), _DTYPES[entry["dtype"]]
    if not 0 <= begin <= end <= len(body) or end - begin != dtype.itemsize * math.prod(shape):
        raise ValueError("an array lies beyond the end")
    return np.frombuffer(body[begin:end], dtype).reshape(shape)
