"""Smaller matrix products in an ONNX graph: each scheme replaces one MatMul by what computes it.

Weights are stored unsigned around 128: without VNNI instructions onnxruntime's kernel for unsigned
activations and signed weights adds two products in 16 bits and saturates; the kernel for two
unsigned operands does not, on any processor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.onnx_matmul import BLOCK, quantize_blocks

Array = NDArray[Any]
Float32 = NDArray[np.float32]

CONTRIB = "com.microsoft"
_LIMB = 254.0  # what 8 bits leave of a value, in units of the next 8


@dataclass(frozen=True, slots=True)
class Product:
    """A MatMul with a constant right side. weight: its name; shape: (in, out); rows: left rows."""

    weight: str
    shape: tuple[int, int]
    rows: int


class GraphEditor:
    """A loaded model whose products and codebooks are replaced one by one.

    what: initializer -> what it became, for the manifest.
    """

    def __init__(self, model: Any) -> None:
        from onnx import shape_inference

        self.model = model
        self.what: dict[str, str] = {}
        graph = model.graph
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        inferred = shape_inference.infer_shapes(_without_weights(model), data_prop=True).graph
        values = (*inferred.value_info, *inferred.input, *inferred.output)
        self._shapes = {
            value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
            for value in values
        }
        self._consumers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self._consumers.setdefault(name, []).append(node)

    def products(self) -> list[tuple[Product, Any]]:
        """Every product with a constant matrix, and its node."""
        found = []
        for node in self.model.graph.node:
            if node.op_type != "MatMul" or node.input[1] not in self.constants:
                continue
            shape = tuple(self.constants[node.input[1]].dims)
            rows = self._shapes.get(node.input[0], ())
            if len(shape) == 2:
                n_rows = int(np.prod(rows[:-1])) if rows else 0
                found.append((Product(node.input[1], (shape[0], shape[1]), n_rows), node))
        return found

    def consumers(self, name: str) -> list[Any]:
        """The nodes that read a value."""
        return self._consumers.get(name, [])

    def array(self, name: str) -> Array:
        """A constant's values."""
        from onnx import numpy_helper

        found: Array = numpy_helper.to_array(self.constants[name])
        return found

    def constant(self, name: str, values: Array) -> str:
        """Add a constant, once; returns its name."""
        from onnx import numpy_helper

        if name not in self.constants:
            tensor = numpy_helper.from_array(np.ascontiguousarray(values), name)
            self.constants[name] = tensor
            self.model.graph.initializer.append(tensor)
        return name

    def replace(self, old: list[Any], new: list[Any]) -> None:
        """Put new nodes where the first of the old ones is, and drop the old ones."""
        nodes = self.model.graph.node
        at = min(list(nodes).index(node) for node in old)
        for node in old:
            nodes.remove(node)
        for offset, node in enumerate(new):
            nodes.insert(at + offset, node)

    def finish(self) -> Any:
        """The edited model, without constants that nobody reads any more, checked."""
        import onnx

        graph = self.model.graph
        used = {name for node in graph.node for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        uses_contrib = any(node.domain == CONTRIB for node in graph.node)
        if uses_contrib and all(e.domain != CONTRIB for e in self.model.opset_import):
            self.model.opset_import.append(onnx.helper.make_opsetid(CONTRIB, 1))
        onnx.checker.check_model(self.model)
        return self.model


Scheme = Callable[[GraphEditor, Product, Any], None]


def quantize_columns(weight: Float32) -> tuple[NDArray[np.uint8], Float32]:
    """(in, out) float32 to uint8 around 128 and a scale for each column; errors <= scale / 2."""
    scale = np.maximum(np.abs(weight).max(0) / 127, np.finfo(np.float32).tiny).astype(np.float32)
    return (np.rint(weight / scale) + 128).astype(np.uint8), scale


def to_u8(editor: GraphEditor, product: Product, node: Any) -> None:
    """8-bit weights by column; activations are quantized to 8 bits as they come."""
    from onnx import helper

    weight = _u8_constants(editor, product)
    bias, node_of_bias, out = _bias_of(editor, node)
    inputs = [node.input[0], *weight, *([bias] if bias else [])]
    new = helper.make_node(
        "DynamicQuantizeMatMul", inputs, [out], f"{node.name}/u8", domain=CONTRIB
    )
    editor.replace([node, *node_of_bias], [new])
    editor.what[product.weight] = "u8"


def to_u8x16(editor: GraphEditor, product: Product, node: Any) -> None:
    """8-bit weights by column, activations in two limbs of 8 bits each.

    Both limbs are rows of one integer product, so the weights are read once. Rounding an
    activation to 16 bits cannot be heard, where 8 bits put hiss into pauses.
    """
    from onnx import helper

    weight, scale, zero = _u8_constants(editor, product)
    bias, node_of_bias, out = _bias_of(editor, node)
    p, x = f"{node.name}/", node.input[0]
    middle = zero
    step = editor.constant("u8x16.step", np.array(1 / 127, np.float32))
    least = editor.constant("u8x16.least", np.array(1e-20, np.float32))
    finer = editor.constant("u8x16.finer", np.array(1 / _LIMB, np.float32))
    fine = "fine" if bias else out

    def make(op: str, inputs: list[str], outputs: list[str], **kwargs: Any) -> Any:
        named = [name if name == out else p + name for name in outputs]
        return helper.make_node(op, inputs, named, f"{p}{op}.{outputs[0]}", **kwargs)

    new = [
        make("Abs", [x], ["abs"]),
        make("ReduceMax", [p + "abs"], ["max"], keepdims=0),
        make("Mul", [p + "max", step], ["rough"]),
        make("Max", [p + "rough", least], ["scale"]),
        make("QuantizeLinear", [x, p + "scale", middle], ["high"]),
        make("DequantizeLinear", [p + "high", p + "scale", middle], ["near"]),
        make("Sub", [x, p + "near"], ["rest"]),
        make("Mul", [p + "scale", finer], ["scale_low"]),
        make("QuantizeLinear", [p + "rest", p + "scale_low", middle], ["low"]),
        make("Concat", [p + "high", p + "low"], ["limbs"], axis=0),
        make(
            "MatMulIntegerToFloat",
            [p + "limbs", weight, p + "scale", scale, middle, zero],
            ["sums"],
            domain=CONTRIB,
        ),
        make("Split", [p + "sums"], ["sum_high", "sum_low"], axis=0, num_outputs=2),
        make("Mul", [p + "sum_low", finer], ["small"]),
        make("Add", [p + "sum_high", p + "small"], [fine]),
    ]
    if bias:
        new.append(make("Add", [p + fine, bias], [out]))
    editor.replace([node, *node_of_bias], new)
    editor.what[product.weight] = "u8x16"


def to_q4(*, float_activations: bool) -> Scheme:
    """4-bit weights in blocks of 32 along the input; optionally no rounding of activations."""

    def scheme(editor: GraphEditor, product: Product, node: Any) -> None:
        from onnx import helper

        packed, scale = pack_q4(editor.array(product.weight))
        n_in, n_out = product.shape
        new = helper.make_node(
            "MatMulNBits",
            [
                node.input[0],
                editor.constant(f"{product.weight}.q4", packed),
                editor.constant(f"{product.weight}.q4_scale", scale),
            ],
            list(node.output),
            f"{node.name}/q4",
            domain=CONTRIB,
            K=n_in,
            N=n_out,
            bits=4,
            block_size=BLOCK,
            accuracy_level=1 if float_activations else 4,
        )
        editor.replace([node], [new])
        editor.what[product.weight] = "q4"

    return scheme


def pack_q4(weight: Float32) -> tuple[NDArray[np.uint8], Float32]:
    """(in, out) to 4-bit blocks along the input, the last one filled up with zeros."""
    n_in, n_out = weight.shape
    rows = np.zeros((n_out, -(-n_in // BLOCK) * BLOCK), np.float32)
    rows[:, :n_in] = weight.T
    return quantize_blocks(rows, 4, BLOCK)


def _u8_constants(editor: GraphEditor, product: Product) -> list[str]:
    """The names of a weight's steps, scales and zero points."""
    steps, scale = quantize_columns(editor.array(product.weight))
    name = product.weight
    return [
        editor.constant(f"{name}.u8", steps),
        editor.constant(f"{name}.u8_scale", scale),
        editor.constant("u8.zero", np.array(128, np.uint8)),  # one for all: a tenth faster
    ]


def _bias_of(editor: GraphEditor, node: Any) -> tuple[str, list[Any], str]:
    """A product's bias, the Add that applies it and the value that comes out of both."""
    readers = editor.consumers(node.output[0])
    if len(readers) == 1 and readers[0].op_type == "Add":
        biases = [name for name in readers[0].input if name in editor.constants]
        if biases and len(editor.constants[biases[0]].dims) == 1:
            return biases[0], [readers[0]], readers[0].output[0]
    return "", [], node.output[0]


def _without_weights(model: Any) -> Any:
    """A copy for shape inference: large constants are replaced by inputs of the same shape."""
    import onnx

    bare = onnx.ModelProto()
    bare.CopyFrom(onnx.ModelProto(ir_version=model.ir_version))
    bare.opset_import.extend(model.opset_import)
    graph = bare.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        if np.prod(tensor.dims) <= 16:
            graph.initializer.append(tensor)
        else:
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            graph.input.append(info)
    return bare
