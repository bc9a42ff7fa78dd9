"""ggml's own quantizers, out of the library that llama.cpp brings: float32 rows to blocks."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelDamagedError, ShapeError
from runtime.backends.llama_library import load_ggml, load_library

Float32 = NDArray[np.float32]
Bytes = NDArray[np.uint8]

# Names as recipes and llama.cpp write them -> ggml's numbers (ggml.h, enum ggml_type).
TYPES: Mapping[str, int] = {
    "f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "q2_K": 10,
    "q3_K": 11, "q4_K": 12, "q5_K": 13, "q6_K": 14, "iq4_nl": 20, "iq4_xs": 23, "bf16": 30,
}  # fmt: skip
NAMES: Mapping[int, str] = {number: name for name, number in TYPES.items()}


_ToFloat = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


class _Traits(ctypes.Structure):
    """ggml.h, struct ggml_type_traits."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("block_size", ctypes.c_int64),
        ("block_size_interleave", ctypes.c_int64),
        ("type_bytes", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", _ToFloat),
        ("from_float_ref", ctypes.c_void_p),
    )


class Ggml:
    """The quantizing functions of one ggml library."""

    def __init__(self) -> None:
        """Load it. Raises MissingPackageError."""
        lib = load_ggml()
        lib.ggml_row_size.restype = ctypes.c_size_t
        lib.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
        lib.ggml_blck_size.restype = ctypes.c_int64
        lib.ggml_blck_size.argtypes = [ctypes.c_int]
        lib.ggml_quantize_chunk.restype = ctypes.c_size_t
        lib.ggml_quantize_chunk.argtypes = [
            ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
            ctypes.c_int64, ctypes.c_void_p,
        ]  # fmt: skip
        lib.ggml_get_type_traits.restype = ctypes.POINTER(_Traits)
        lib.ggml_get_type_traits.argtypes = [ctypes.c_int]
        self._lib = lib

    def row_bytes(self, kind: str, n_columns: int) -> int:
        """Bytes that a row takes."""
        return int(self._lib.ggml_row_size(TYPES[kind], n_columns))

    def fits(self, kind: str, n_columns: int) -> bool:
        """Whether rows of that width can be of a type: K-quants need multiples of 256."""
        return n_columns % int(self._lib.ggml_blck_size(TYPES[kind])) == 0

    def quantize(self, kind: str, rows: Float32, importance: Float32 | None = None) -> Bytes:
        """Rows float32 (n, n_columns) as blocks, uint8 (n, row_bytes); the GIL is let go.

        importance: float32 (n_columns,), how much each column's error matters, where known.
        Raises ShapeError for a width that the type does not take.
        """
        n_rows, n_columns = rows.shape
        if not self.fits(kind, n_columns):
            raise ShapeError(f"{kind} rows", got=n_columns, want="a multiple of the block size")
        source = np.ascontiguousarray(rows, np.float32)
        out = np.empty((n_rows, self.row_bytes(kind, n_columns)), np.uint8)
        weights = None
        if importance is not None:
            weights = np.ascontiguousarray(importance, np.float32).ctypes.data
        self._lib.ggml_quantize_chunk(
            TYPES[kind], source.ctypes.data, out.ctypes.data, 0, n_rows, n_columns, weights
        )
        return out

    def dequantize(self, kind: str, blocks: Bytes, n_columns: int) -> Float32:
        """What blocks, uint8 (n, row_bytes), stand for: float32 (n, n_columns)."""
        if kind == "f32":
            return blocks.view(np.float32).reshape(-1, n_columns)
        source = np.ascontiguousarray(blocks, np.uint8)
        n_rows = source.size // self.row_bytes(kind, n_columns)
        out = np.empty((n_rows, n_columns), np.float32)
        traits = self._lib.ggml_get_type_traits(TYPES[kind]).contents
        traits.to_float(source.ctypes.data, out.ctypes.data, out.size)
        return out


def requantize(source: Path, target: Path, kind: Literal["q8_0"], *, threads: int = 1) -> None:
    """Write the weights of a GGUF, quantized already or not, as another type; one shot.

    Raises ModelDamagedError where llama.cpp refuses the file, MissingPackageError.
    """
    lib = load_library()
    params = lib.llama_model_quantize_default_params()
    params.ftype = {"q8_0": lib.LLAMA_FTYPE_MOSTLY_Q8_0}[kind]
    params.allow_requantize = True
    params.nthread = threads
    if lib.llama_model_quantize(bytes(source), bytes(target), ctypes.byref(params)) != 0:
        raise ModelDamagedError(f"{source.name}: llama.cpp cannot write it as {kind}")
