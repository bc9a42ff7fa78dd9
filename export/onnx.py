"""One torch module to one clean ONNX file: static shapes, our names, no trace of this machine."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.errors import ArtifactError, ShapeError
from edge.manifest import TensorSpec

if TYPE_CHECKING:
    import torch

OPSET = 20
_DTYPES = {1: "float32", 7: "int64", 10: "float16", 2: "uint8", 3: "int8", 6: "int32", 9: "bool"}


def export_graph(
    net: torch.nn.Module,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    path: Path,
    *,
    name: str,
    sizes: Mapping[str, int] | None = None,
) -> None:
    """Trace a net whose forward takes one tensor per input and write its graph.

    name: the graph's own name. sizes: for each free size that the inputs name, one to trace with;
    such graphs take any. Raises ArtifactError where tracing fails or the graph is not
    valid, ShapeError where its inputs or outputs are not the ones listed.
    """
    import onnx
    import torch

    traced_with = sizes or {}
    args = tuple(
        torch.zeros(
            [traced_with[size] if isinstance(size, str) else size for size in spec.shape],
            dtype=getattr(torch, spec.dtype),
        )
        for spec in inputs
    )
    with torch.no_grad(), _quiet():
        try:
            program = torch.onnx.export(
                net.eval(),
                args,
                dynamo=True,
                opset_version=OPSET,
                input_names=[spec.name for spec in inputs],
                output_names=[spec.name for spec in outputs],
                dynamic_shapes=_free(inputs) if sizes else None,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as exc:
            raise ArtifactError(f"{name}: torch cannot export this net ({exc})") from exc
    assert program is not None
    model = program.model_proto
    clean(model, name)
    if sizes:
        _name_free_sizes(model, outputs)
    check_ports(model, inputs, outputs)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _free(inputs: Sequence[TensorSpec]) -> tuple[dict[int, Any], ...]:
    """For torch: which axes of each input are free; axes of one name are of one size."""
    import torch

    dims: dict[str, Any] = {}
    return tuple(
        {
            axis: dims.setdefault(size, torch.export.Dim(size))
            for axis, size in enumerate(spec.shape)
            if isinstance(size, str)
        }
        for spec in inputs
    )


def _name_free_sizes(model: Any, outputs: Sequence[TensorSpec]) -> None:
    """Free sizes of outputs come as formulas of the inputs', or not at all: name them as listed."""
    for value, spec in zip(model.graph.output, outputs, strict=False):
        dims = value.type.tensor_type.shape.dim
        for dim, size in zip(dims, spec.shape, strict=False):
            if isinstance(size, str):
                dim.dim_param = size


def clean(model: Any, name: str) -> None:
    """Drop what a run does not need: stale shapes, documentation, and traces of source files.

    Stale value_info breaks quantizers; the exporter's metadata holds paths of this machine.
    """
    graph = model.graph
    del graph.value_info[:]
    graph.name, graph.doc_string, model.doc_string = name, "", ""
    model.producer_name, model.producer_version = "edgevoice", ""
    parts = [model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer]
    for part in parts:
        del part.metadata_props[:]
        part.doc_string = ""
    used = {tensor for node in graph.node for tensor in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    if len(kept) < len(graph.initializer):
        del graph.initializer[:]
        graph.initializer.extend(kept)


def check_ports(model: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Compare a graph's inputs and outputs with what they should be. Raises ShapeError."""
    for side, want, got in (
        ("inputs", inputs, model.graph.input),
        ("outputs", outputs, model.graph.output),
    ):
        if list(want) != (found := [port_of(value) for value in got]):
            odd = [spec for spec in found if spec not in want] or "too few"
            raise ShapeError(f"{model.graph.name} {side}", got=odd, want=list(want))


def port_of(value: Any) -> TensorSpec:
    """Name, dtype and shape of a graph's input or output."""
    tensor = value.type.tensor_type
    shape = tuple(dim.dim_param or int(dim.dim_value) for dim in tensor.shape.dim)
    return TensorSpec(value.name, _DTYPES.get(tensor.elem_type, "string"), shape)  # type: ignore[arg-type]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about itself from the user: they ask for nothing."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
