"""A voice's timing taken out of its graph and put in from outside.

A voice rounds the length of each sound to whole steps. A weight that moved a little moves some of
them by one, and from there on nothing can be compared sample by sample. So the float model's
lengths are read out, and the candidate is given them in place of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.errors import ArtifactError


def length_tensor(model: Any) -> str:
    """The value that holds the rounded lengths. Raises ArtifactError where it cannot be told."""
    rounds = [node for node in model.graph.node if node.op_type == "Round"]
    if len(rounds) != 1:
        raise ArtifactError(
            f"a voice whose graph rounds {len(rounds)} times; its lengths cannot be told from that"
        )
    name: str = rounds[0].output[0]
    return name


def showing(path: Path) -> tuple[bytes, str]:
    """The graph with its lengths as one more output; and that output's name."""
    import onnx

    model = onnx.load(str(path))
    name = length_tensor(model)
    model.graph.output.append(_described(name))
    return model.SerializeToString(), name


def holding(path: Path) -> tuple[bytes, str]:
    """The graph with its lengths as one more input; and that input's name."""
    import onnx

    model = onnx.load(str(path))
    name = length_tensor(model)
    kept = [node for node in model.graph.node if name not in node.output]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.graph.input.append(_described(name))
    return model.SerializeToString(), name


def _described(name: str) -> Any:
    """One length for each sound: float32 (n,)."""
    import onnx

    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n_sounds"])
