"""A float GGUF into a smaller one, tensor by tensor: flat memory, resumable, types by name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import UsageError
from edge.safetensors import to_float32
from export.gguf import GgufTensor, write_gguf
from export.gguf_read import GgufFile, StoredTensor, read_gguf
from runtime.backends.ggml import NAMES, TYPES, Ggml

Bytes = NDArray[np.uint8]

_FLOATS = {"f32": "F32", "f16": "F16", "bf16": "BF16"}
_CHUNK_BYTES = 64 << 20  # of float32 rows that are quantized at once
# llama.cpp's number for a file's main type (llama.h, enum llama_ftype): for people to read.
_FILE_TYPES = {
    "f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q2_K": 10,
    "q3_K": 12, "q4_K": 15, "q5_K": 17, "q6_K": 18, "iq4_nl": 25, "iq4_xs": 30, "bf16": 32,
}  # fmt: skip

# Gives the type a matrix shall have, by its name in the GGUF; "" for the one it is stored in.
TypeOf = Callable[[str], str]


def quantize_gguf(
    source: Path,
    target: Path,
    type_of: TypeOf,
    *,
    fallback: str = "q8_0",
    importance: Mapping[str, NDArray[np.float32]] | None = None,
    threads: int = 1,
    on_tensor: Callable[[str, int], None] | None = None,
) -> dict[str, str]:
    """Write target with every matrix of source as type_of(name) says; vectors stay as they are.

    fallback: the type of matrices whose rows do not divide into the wanted type's blocks, and
    where that does not fit either, float16. importance: weights of a matrix's columns.
    Returns what each tensor has become. An interrupted run goes on with the next call.
    Raises ModelDamagedError, UsageError for an unknown type or a source that is not float.
    """
    ggml = Ggml()
    file = read_gguf(source)
    kinds = {tensor.name: _kind(ggml, tensor, type_of, fallback) for tensor in file.tensors}
    weights = importance or {}
    with ThreadPoolExecutor(threads) as pool:
        tensors = [
            GgufTensor(
                tensor.name,
                tensor.shape,
                TYPES[kinds[tensor.name]],
                _n_bytes(ggml, kinds[tensor.name], tensor.shape),
                partial(
                    _convert, ggml, pool, file, tensor, kinds[tensor.name], weights.get(tensor.name)
                ),
            )
            for tensor in file.tensors
        ]
        matrices = [kinds[tensor.name] for tensor in file.tensors if len(tensor.shape) > 1]
        main = max(set(matrices), key=matrices.count)
        metadata = file.metadata
        if "general.file_type" in file.places:
            metadata = file.with_number("general.file_type", _FILE_TYPES[main])
        stat = source.stat()
        weighed = [(name, _digest(weights[name])) for name in sorted(weights)]
        key = f"{stat.st_size} {stat.st_mtime_ns} {sorted(kinds.items())} {weighed}"
        write_gguf(target, metadata, tensors, source=key, on_tensor=on_tensor)
    return kinds


def _kind(ggml: Ggml, tensor: StoredTensor, type_of: TypeOf, fallback: str) -> str:
    stored = NAMES.get(tensor.ggml_type, "")
    if stored not in _FLOATS:
        raise UsageError(
            f"{tensor.name} is {stored or tensor.ggml_type} already; quantize the float model"
        )
    if len(tensor.shape) < 2:
        return stored
    wanted = type_of(tensor.name) or stored
    for kind in (wanted, fallback):
        if kind not in TYPES:
            raise UsageError(f"unknown tensor type {kind!r}; known are {', '.join(TYPES)}")
        if ggml.fits(kind, tensor.shape[-1]):
            return kind
    return "f16"


def _digest(values: NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def _n_bytes(ggml: Ggml, kind: str, shape: tuple[int, ...]) -> int:
    return ggml.row_bytes(kind, shape[-1]) * int(np.prod(shape[:-1]))


def _convert(
    ggml: Ggml,
    pool: ThreadPoolExecutor,
    file: GgufFile,
    tensor: StoredTensor,
    kind: str,
    importance: NDArray[np.float32] | None,
) -> Bytes:
    """A tensor's data in its new type."""
    stored = NAMES[tensor.ggml_type]
    raw = file.read(tensor, _n_bytes(ggml, stored, tensor.shape))
    if kind == stored:
        return raw
    n_columns = tensor.shape[-1]
    values = raw.view({"f32": np.float32, "f16": np.float16, "bf16": np.uint16}[stored])
    rows = values.reshape(-1, n_columns)
    n_rows = max(1, _CHUNK_BYTES // (4 * n_columns))
    parts = [rows[first : first + n_rows] for first in range(0, len(rows), n_rows)]
    done = pool.map(
        lambda part: ggml.quantize(kind, to_float32(part, _FLOATS[stored]), importance), parts
    )
    return np.concatenate(list(done))
