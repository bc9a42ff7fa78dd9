"""Every weight of an ONNX graph, and how it becomes one of the precisions that a recipe may name.

float         as it is
f16           stored as float16, computed in float32: half the file, the same memory once loaded
w8a16         8-bit weights; activations keep 16 bits or more
int8          8-bit weights by column, activations rounded to 8 bits as they come; matrices only
w8, w4        8- or 4-bit weights in blocks of 32, activations rounded to 8 bits; matrices only
w8f, w4f      the same with float activations
sim2 .. sim8  weights rounded to that many bits in blocks of 32 but stored as floats: for measuring
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge.errors import UsageError
from quant.onnx_matmul import BLOCK, dequantize_blocks, quantize_blocks
from quant.onnx_products import CONTRIB, GraphEditor, Product, quantize_columns, to_u8, to_u8x16

Float32 = NDArray[np.float32]
Kind = Literal["matmul", "search", "conv", "table", "other"]

SIMULATED = tuple(f"sim{bits}" for bits in range(2, 9))
PRECISIONS = ("float", "f16", "w8a16", "int8", "w8", "w8f", "w4", "w4f", *SIMULATED)
_MATRIX_ONLY = ("int8", "w8", "w8f", "w4", "w4f")
_BLOCKWISE = {"w8": (8, 4), "w8f": (8, 1), "w4": (4, 4), "w4f": (4, 1)}  # bits, accuracy_level
_MIN_VALUES = 1 << 10  # smaller tensors are not worth it
_MAX_ROWS_LIMBS = 16  # with more, arithmetic is the limit and two limbs cost twice


@dataclass(frozen=True, slots=True)
class Weight:
    """A constant that may change. name: in the graph. rows: of what a matrix is multiplied with."""

    name: str
    kind: Kind
    shape: tuple[int, ...]
    rows: int = 0

    @property
    def label(self) -> str:
        """What recipes match: the kind, then the name."""
        return f"{self.kind}:{self.name}"

    @property
    def n_values(self) -> int:
        """Numbers in it."""
        return int(np.prod(self.shape))


def weights_of(editor: GraphEditor) -> list[Weight]:
    """The constants of a graph that are worth changing, in the graph's order."""
    products = {product.weight: (product, node) for product, node in editor.products()}
    found = []
    for name, tensor in editor.constants.items():
        shape = tuple(tensor.dims)
        if int(np.prod(shape)) < _MIN_VALUES or tensor.data_type != 1 or len(shape) < 2:
            continue
        if name in products:
            product, node = products[name]
            kind: Kind = "search" if is_search(editor, node) else "matmul"
            found.append(Weight(name, kind, shape, product.rows))
        else:
            found.append(Weight(name, _kind(editor, name, shape), shape))
    return found


def is_search(editor: GraphEditor, node: Any) -> bool:
    """Whether a product is a codebook search, which is no place for rounding."""
    readers = editor.consumers(node.output[0])
    return len(readers) == 1 and readers[0].op_type == "Sub"


def fits(weight: Weight, precision: str) -> bool:
    """Whether a weight can take a precision. Raises UsageError for one that there is none of."""
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}; known are {', '.join(PRECISIONS)}")
    if precision in _MATRIX_ONLY:
        return weight.kind == "matmul" and weight.shape[0] >= BLOCK
    return True


def size_bytes(weight: Weight, precision: str) -> int:
    """Bytes it takes in the file, scales with it."""
    n = weight.n_values
    if precision in _BLOCKWISE:
        bits = _BLOCKWISE[precision][0]
        n_blocks = weight.shape[1] * -(-weight.shape[0] // BLOCK)
        return n_blocks * (BLOCK * bits // 8 + 4)
    if precision in ("int8", "w8a16"):
        return n + 5 * channels(weight)
    return n * (2 if precision == "f16" else 4)


def channels(weight: Weight) -> int:
    """Scales that 8 bits a weight come with."""
    return weight.shape[1] if weight.kind in ("matmul", "search") else weight.shape[0]


def rounded(weight: Weight, values: Float32, precision: str) -> Float32:
    """What the values are worth in a precision, same shape."""
    if precision == "f16":
        return values.astype(np.float16).astype(np.float32)
    if precision in ("int8", "w8a16"):
        by_column = values if weight.kind == "matmul" else _as_columns(values)
        steps, scale = quantize_columns(by_column)
        back = (steps.astype(np.float32) - 128) * scale
        return back if weight.kind == "matmul" else _from_columns(back, values.shape)
    bits = _bits(precision)
    if bits is None:
        return values
    columns = values if weight.kind == "matmul" else _as_columns(values)
    n_in = columns.shape[0]
    packed, scales = quantize_blocks(_padded_rows(columns), bits, BLOCK)
    back = np.ascontiguousarray(dequantize_blocks(packed, scales, bits)[:, :n_in].T)
    return back if weight.kind == "matmul" else _from_columns(back, values.shape)


def apply(
    editor: GraphEditor, weight: Weight, precision: str, importance: Float32 | None = None
) -> None:
    """Give a weight of the graph a precision that fits it.

    importance: float32 (in,), of a matrix's inputs, where they were calibrated.
    """
    if precision == "float":
        return
    if precision in SIMULATED:
        _store(editor, weight, rounded(weight, editor.array(weight.name), precision))
    elif precision in _BLOCKWISE:
        for product, node in _nodes_of(editor, weight):
            _to_blocks(editor, product, node, *_BLOCKWISE[precision], importance)
    elif precision == "int8":
        for product, node in _nodes_of(editor, weight):
            to_u8(editor, product, node)
    elif precision == "w8a16" and weight.kind == "matmul" and 0 < weight.rows <= _MAX_ROWS_LIMBS:
        for product, node in _nodes_of(editor, weight):
            to_u8x16(editor, product, node)
    elif precision == "w8a16":
        _store_u8(editor, weight)
    else:
        _store_f16(editor, weight)
    editor.what[weight.name] = precision


def _nodes_of(editor: GraphEditor, weight: Weight) -> Iterator[tuple[Product, Any]]:
    for product, node in editor.products():
        if product.weight == weight.name:
            yield product, node


def _kind(editor: GraphEditor, name: str, shape: tuple[int, ...]) -> Kind:
    ops = {node.op_type for node in editor.consumers(name)}
    if ops & {"Conv", "ConvTranspose"}:
        return "conv"
    if ops == {"Gather"} and len(shape) == 2:
        return "table"
    return "other"


def _bits(precision: str) -> int | None:
    if precision in _BLOCKWISE:
        return _BLOCKWISE[precision][0]
    return int(precision[3:]) if precision in SIMULATED else None


def _as_columns(values: Float32) -> Float32:
    """The first axis as columns, so that each output channel or row has scales of its own."""
    return np.ascontiguousarray(values.reshape(values.shape[0], -1).T)


def _from_columns(columns: Float32, shape: tuple[int, ...]) -> Float32:
    return np.ascontiguousarray(columns.T).reshape(shape)


def _padded_rows(columns: Float32) -> Float32:
    n_in, n_out = columns.shape
    rows = np.zeros((n_out, -(-n_in // BLOCK) * BLOCK), np.float32)
    rows[:, :n_in] = columns.T
    return rows


def _to_blocks(
    editor: GraphEditor, product: Product, node: Any, bits: int, accuracy_level: int,
    importance: Float32 | None,
) -> None:  # fmt: skip
    from onnx import helper

    n_in, n_out = product.shape
    if importance is not None:
        importance = np.pad(importance, (0, -n_in % BLOCK))
    rows = _padded_rows(editor.array(product.weight))
    packed, scales = quantize_blocks(rows, bits, BLOCK, importance=importance)
    new = helper.make_node(
        "MatMulNBits",
        [
            node.input[0],
            editor.constant(f"{product.weight}.q{bits}", packed),
            editor.constant(f"{product.weight}.q{bits}_scale", scales),
        ],
        list(node.output),
        f"{node.name}/q{bits}",
        domain=CONTRIB,
        K=n_in,
        N=n_out,
        bits=bits,
        block_size=BLOCK,
        accuracy_level=accuracy_level,
    )
    editor.replace([node], [new])


def _store_f16(editor: GraphEditor, weight: Weight) -> None:
    from onnx import helper

    stored = editor.constant(f"{weight.name}.f16", editor.array(weight.name).astype(np.float16))
    node = helper.make_node("Cast", [stored], [weight.name], f"{weight.name}/widen", to=1)
    _compute(editor, weight, [node])


def _store_u8(editor: GraphEditor, weight: Weight) -> None:
    """8 bits in the file, widened by the graph: onnxruntime does it once, when it loads."""
    from onnx import helper

    values = editor.array(weight.name)
    axis = 1 if weight.kind in ("matmul", "search") else 0
    steps, scale = quantize_columns(values if axis else _as_columns(values))
    if not axis:
        steps = np.ascontiguousarray(steps.T).reshape(values.shape)
    inputs = [
        editor.constant(f"{weight.name}.u8", steps),
        editor.constant(f"{weight.name}.u8_scale", scale),
        editor.constant(f"{weight.name}.u8_zero", np.full(len(scale), 128, np.uint8)),
    ]
    node = helper.make_node(
        "DequantizeLinear", inputs, [weight.name], f"{weight.name}/widen", axis=axis
    )
    _compute(editor, weight, [node])


def _store(editor: GraphEditor, weight: Weight, values: Float32) -> None:
    from onnx import numpy_helper

    editor.constants[weight.name].CopyFrom(
        numpy_helper.from_array(np.ascontiguousarray(values), weight.name)
    )


def _compute(editor: GraphEditor, weight: Weight, nodes: list[Any]) -> None:
    """Let nodes make a value that was a constant so far."""
    graph = editor.model.graph
    del editor.constants[weight.name]
    # By name: comparing whole tensors, as remove() does, would take minutes.
    at = [tensor.name for tensor in graph.initializer].index(weight.name)
    del graph.initializer[at]
    for offset, node in enumerate(nodes):
        graph.node.insert(offset, node)
