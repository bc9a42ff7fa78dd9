"""A graph that somebody quantized dynamically back into floats: its stored weights, as numbers.

What rounding once took away stays away: the weights are those 8-bit steps. What comes back is what
8-bit activations take away at run time, so a lifted graph is the most precise form of such a model
that there is, and what smaller forms of it must be compared with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import ArtifactError

_INTEGER = ("MatMulInteger", "ConvInteger", "DynamicQuantizeMatMul", "QLinearMatMul", "QLinearConv")


def is_dynamic(path: Path) -> bool:
    """Whether a graph computes with integers. Raises ArtifactError."""
    from quant.subject import load_editor

    return any(node.op_type in _INTEGER for node in load_editor(path).model.graph.node)


def lift(source: Path, target: Path) -> int:
    """Write target: every MatMulInteger with its scales as one float MatMul; returns how many.

    Raises ArtifactError for integer operators other than those.
    """
    import onnx

    from quant.subject import load_editor

    model = load_editor(source).model
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {out: node for node in graph.node for out in node.output}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    gone: set[str] = set()
    new: dict[str, Any] = {}
    for node in graph.node:
        if node.op_type in _INTEGER:
            product, replaced = _lifted(node, constants, makers, readers, source)
            new[node.name] = product
            gone.update(one.name for one in replaced)
    weights = {p.input[1] for p in new.values()}
    for name in sorted(weights):
        stored = name.removesuffix(".lifted")
        graph.initializer.append(onnx.numpy_helper.from_array(_values(stored, constants), name))
    nodes = [new.get(node.name, node) for node in graph.node if node.name not in gone]
    _replace_nodes(graph, nodes)
    _drop_unused(graph)
    onnx.checker.check_model(model)
    onnx.save(model, str(target))
    return len(new)


def _lifted(
    node: Any, constants: Any, makers: Any, readers: Any, source: Path
) -> tuple[Any, list[Any]]:
    """The float product in place of an integer one, and the nodes that go with the latter."""
    import onnx

    entry: Any = makers.get(node.input[0])
    cast: Any = readers.get(node.output[0], [None])[0]
    scaled: Any = readers.get(cast.output[0], [None])[0] if cast is not None else None
    known = (
        node.op_type == "MatMulInteger"
        and entry is not None
        and cast is not None
        and entry.op_type == "DynamicQuantizeLinear"
        and node.input[1] in constants
        and cast.op_type == "Cast"
        and scaled is not None
        and scaled.op_type == "Mul"
    )
    if not known:
        raise ArtifactError(
            f"{source.name}: {node.op_type} {node.name} is not in the form that can be lifted; "
            "measure this model as it is"
        )
    product = onnx.helper.make_node(
        "MatMul", [entry.input[0], f"{node.input[1]}.lifted"], list(scaled.output), node.name
    )
    return product, [cast, scaled]


def _values(name: str, constants: Any) -> Any:
    """Stored steps as float32; onnxruntime's quantizer names scale and zero point after them."""
    from onnx import numpy_helper

    base = name.removesuffix("_quantized")
    parts = [constants.get(base + ending) for ending in ("_scale", "_zero_point")]
    if None in parts:
        raise ArtifactError(f"{name}: its scale is not in the graph; measure this model as it is")
    steps = numpy_helper.to_array(constants[name]).astype(np.float32)
    scale, zero = (numpy_helper.to_array(part).astype(np.float32) for part in parts)
    return ((steps - zero) * scale).astype(np.float32)


def _replace_nodes(graph: Any, nodes: list[Any]) -> None:
    kept = list(nodes)
    del graph.node[:]
    graph.node.extend(kept)


def _drop_unused(graph: Any) -> None:
    """Take away what nobody reads any more, back to front."""
    wanted = {value.name for value in graph.output}
    kept = []
    for node in reversed(list(graph.node)):
        if any(out in wanted for out in node.output):
            kept.append(node)
            wanted.update(node.input)
    _replace_nodes(graph, kept[::-1])
    tensors = [tensor for tensor in graph.initializer if tensor.name in wanted]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
