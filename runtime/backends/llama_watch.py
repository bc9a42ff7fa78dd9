"""What llama.cpp multiplies its weights with, seen while it runs: for calibration.

Source of the layout: ggml-org/llama.cpp, ggml/include/ggml.h, struct ggml_tensor. It is checked
against the library itself before anything is read through it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelDamagedError

# Told of a weight's name and of what it is multiplied with, float32 (n_rows, n_columns), a view
# that is valid during the call only.
OnProduct = Callable[[str, NDArray[np.float32]], None]

_F32, _MAX_DIMS, _MAX_SRC, _MAX_NAME = 0, 4, 10, 64


class _Tensor(ctypes.Structure):
    """ggml.h, struct ggml_tensor, up to its name."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * _MAX_DIMS),
        ("nb", ctypes.c_size_t * _MAX_DIMS),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * _MAX_SRC),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * _MAX_NAME),
    )


def watch_products(lib: Any, ggml: ctypes.CDLL, on_product: OnProduct) -> Any:
    """A callback for a context on the processor; the caller keeps it as long as the context.

    lib: the llama_cpp package. ggml: libggml-base. Only matrices whose names end in ".weight" are
    told of. Raises ModelDamagedError where the library's tensors are laid out differently.
    """
    ggml.ggml_get_name.restype = ctypes.c_void_p
    ggml.ggml_get_name.argtypes = [ctypes.c_void_p]
    ggml.ggml_op_name.restype = ctypes.c_char_p
    ggml.ggml_op_name.argtypes = [ctypes.c_int]
    # The function gives the name's address: an offset in a tensor that need not exist.
    at = 1 << 20
    if ggml.ggml_get_name(at) - at != _Tensor.name.offset:
        raise ModelDamagedError(
            "this build of llama.cpp lays its tensors out differently; install the pinned version "
            "with: make demo"
        )
    product = next(op for op in range(128) if ggml.ggml_op_name(op) == b"MUL_MAT")

    def receive(address: int, ask: bool, _data: object) -> bool:
        tensor = _Tensor.from_address(address)
        if tensor.op != product:
            return not ask
        weight = _Tensor.from_address(tensor.src[0])
        values = _Tensor.from_address(tensor.src[1])
        wanted: bool = weight.name.endswith(b".weight") and values.type == _F32
        if wanted and not ask:
            on_product(weight.name.decode(), _rows(values))
        return wanted or not ask

    return lib.ggml_backend_sched_eval_callback(receive)


def _rows(tensor: _Tensor) -> NDArray[np.float32]:
    """A float32 tensor's values, rows of its first dimension."""
    shape, strides = tuple(tensor.ne)[::-1], tuple(tensor.nb)[::-1]
    n_bytes = 4 + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    raw = (ctypes.c_uint8 * n_bytes).from_address(tensor.data)
    values = np.ndarray(shape, np.float32, raw, strides=strides)
    return values.reshape(-1, shape[-1])
