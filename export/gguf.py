"""GGUF files written tensor by tensor: flat memory, resumable after an interrupt, moved in whole.

Source of the format: ggml-org/ggml, docs/gguf.md (version 3).
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ArtifactError

ALIGNMENT_BYTES = 32
_MAGIC = b"GGUF"
_VERSION = 3
_U32, _F32, _BOOL, _STRING, _ARRAY = 4, 6, 7, 8, 9  # gguf value types that are written here

# ggml's numbers of the float types; K-quants and the like are written by quant/gguf.py.
GGML_TYPES: Mapping[str, int] = {"F32": 0, "F16": 1, "BF16": 30}
FILE_TYPES: Mapping[str, int] = {"F32": 0, "F16": 1, "BF16": 32}
_SAVE_EVERY_BYTES = 64 << 20

Value = int | float | bool | str | Sequence[str]


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor to write. shape: numpy order, rows first. ggml_type: ggml's number for its type.

    n_bytes: of its data. read: gives the data, C-contiguous, when its turn comes.
    """

    name: str
    shape: tuple[int, ...]
    ggml_type: int
    n_bytes: int
    read: Callable[[], NDArray[Any]]


def float_tensor(
    name: str, shape: tuple[int, ...], dtype: str, read: Callable[[], NDArray[Any]]
) -> GgufTensor:
    """A tensor of type "F32", "F16" or "BF16"."""
    n_bytes = int(np.prod(shape)) * (4 if dtype == "F32" else 2)
    return GgufTensor(name, shape, GGML_TYPES[dtype], n_bytes, read)


@dataclass(frozen=True, slots=True)
class Metadata:
    """Key-value pairs as they stand in a file."""

    n_pairs: int
    raw: bytes


def write_gguf(
    path: Path,
    metadata: Mapping[str, Value] | Metadata,
    tensors: Sequence[GgufTensor],
    *,
    source: str,
    on_tensor: Callable[[str, int], None] | None = None,
) -> None:
    """Write a GGUF; after an interrupt the next call goes on where it stopped.

    metadata: bool, str, int (uint32), float (float32) and lists of str, in the order to write.
    source: identifies the tensors' content; an unfinished file of another source begins anew.
    on_tensor: called with a tensor's name and size in bytes once it is written.
    The file appears under its name only when it is whole and on the disk. Raises ArtifactError
    where a tensor's data is not as announced.
    """
    header = encode_header(metadata, tensors)
    part, notes = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.progress")
    key = {"source": source, "header_bytes": len(header)}
    n_done = _resume(part, notes, key, header)
    with part.open("r+b" if n_done else "wb") as file:
        if n_done == 0:
            file.write(header)
        file.seek(len(header) + sum(_padded(t.n_bytes) for t in tensors[:n_done]))
        file.truncate()
        unsaved = 0
        for i, tensor in enumerate(tensors):
            if i >= n_done:
                _write_tensor(file, tensor)
                unsaved += tensor.n_bytes
            if unsaved >= _SAVE_EVERY_BYTES:
                _sync(file)
                notes.write_text(json.dumps({**key, "n_done": i + 1}), "utf-8")
                unsaved = 0
            if on_tensor is not None:
                on_tensor(tensor.name, tensor.n_bytes)
        _sync(file)
    part.replace(path)
    notes.unlink(missing_ok=True)


def encode_header(metadata: Mapping[str, Value] | Metadata, tensors: Iterable[GgufTensor]) -> bytes:
    """Everything before the first tensor's data, padded."""
    tensors = list(tensors)
    if not isinstance(metadata, Metadata):
        pairs = [_text(name) + _value(value) for name, value in metadata.items()]
        metadata = Metadata(len(pairs), b"".join(pairs))
    parts = [_MAGIC, struct.pack("<IQQ", _VERSION, len(tensors), metadata.n_pairs), metadata.raw]
    offset = 0
    for tensor in tensors:
        dims = tensor.shape[::-1]
        parts.append(_text(tensor.name))
        parts.append(struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, tensor.ggml_type, offset))
        offset += _padded(tensor.n_bytes)
    header = b"".join(parts)
    return header + bytes(_padded(len(header)) - len(header))


def _write_tensor(file: Any, tensor: GgufTensor) -> None:
    data = np.ascontiguousarray(tensor.read())
    if data.nbytes != tensor.n_bytes:
        raise ArtifactError(
            f"{tensor.name}: {data.nbytes} bytes of data where {tensor.n_bytes} were announced"
        )
    file.write(data.data.cast("B"))
    file.write(bytes(_padded(tensor.n_bytes) - tensor.n_bytes))


def _resume(part: Path, notes: Path, key: Mapping[str, Any], header: bytes) -> int:
    """How many tensors an unfinished file of the same source and layout holds for certain."""
    try:
        said = json.loads(notes.read_text("utf-8"))
        with part.open("rb") as file:
            same = file.read(len(header)) == header
    except (OSError, ValueError):
        return 0
    if not same or not isinstance(said, dict) or any(said.get(k) != v for k, v in key.items()):
        return 0
    return int(said.get("n_done", 0))


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _padded(n_bytes: int) -> int:
    return -(-n_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _text(text: str) -> bytes:
    raw = text.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Value) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", _BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", _U32, value)
    if isinstance(value, float):
        return struct.pack("<If", _F32, value)
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _text(value)
    items = b"".join(map(_text, value))
    return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + items
