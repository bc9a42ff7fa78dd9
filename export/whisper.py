"""A Whisper network as two ONNX graphs: sound to keys and values, and one token a step.

encoder: mel float32 (1, n_mels, 2 S) -> cross_k.I, cross_v.I float32 (1, heads, S, 64) a layer
decoder: token int64 (1,), position int64 (1,), past_k.I and past_v.I (1, heads, P, 64), cross_* ->
         logits float32 (1, vocabulary), next_k.I and next_v.I (1, heads, P + 1, 64)

The vocabulary's table is in the decoder twice: by row for what goes in, by column for what comes
out, as each is read.
"""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.atomic import atomic_path
from edge.errors import UsageError
from edge.hashing import sha256_of
from edge.manifest import Manifest, SourceRecord, record_file, write_manifest
from edge.outputs import check_new_folder
from export.ct2_read import float_array, read_ct2

KIND = "foreign-asr"
_HEAD_DIM = 64
_OPSET = 20
Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class WhisperExport:
    """What was written: the artifact's folder, layers, width, tokens."""

    directory: Path
    n_layers: int
    dim: int
    n_tokens: int
    size_bytes: int


def export_whisper(source: Path, out: Path) -> WhisperExport:
    """Write the artifact `out` from a CTranslate2 Whisper folder with float16 or float32 weights.

    Raises UsageError, ModelDamagedError; nothing then stands at out.
    """
    check_new_folder(out)
    model = source / "model.bin"
    if not model.is_file():
        raise UsageError(f"{source} has no model.bin; give the folder of a CTranslate2 model")
    kind, arrays = read_ct2(model)
    if kind != "WhisperSpec":
        raise UsageError(f"{source} is a {kind}, not a Whisper model")
    n_layers = sum(name.endswith("/self_attention/layer_norm/gamma") for name in arrays) // 2
    dim = arrays["encoder/conv1/weight"].shape[0]
    with atomic_path(out) as folder:
        folder.mkdir()
        _encoder(arrays, n_layers, dim, folder / "encoder.onnx")
        _decoder(arrays, n_layers, dim, folder / "decoder.onnx")
        names = ["encoder.onnx", "decoder.onnx"]
        for name in ("config.json", "vocabulary.txt", "vocabulary.json", "tokenizer.json"):
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
                names.append(name)
        files = tuple(record_file(folder, name) for name in names)
        write_manifest(
            folder,
            Manifest(
                kind=KIND,
                files=files,
                config={
                    "family": "whisper",
                    "n_layers": n_layers,
                    "dim": dim,
                    "n_mels": int(arrays["encoder/conv1/weight"].shape[1]),
                    "stored": str(arrays["encoder/conv1/weight"].dtype),
                },
                sources=(SourceRecord("model.bin", sha256_of(model)),),
                tools={name: importlib.metadata.version(name) for name in ("edgevoice", "onnx")},
            ),
        )
    n_tokens = arrays["decoder/embeddings/weight"].shape[0]
    return WhisperExport(out, n_layers, dim, n_tokens, sum(one.size_bytes for one in files))


class _Graph:
    """A graph in the making: weights are named once, nodes in order."""

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = arrays
        self._nodes: list[Any] = []
        self._weights: dict[str, NDArray[Any]] = {}

    def node(self, op: str, inputs: Sequence[str], out: str = "", **attributes: Any) -> str:
        """Add a node; returns its only output."""
        from onnx import helper

        name = out or f"{op}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [name], f"node_{name}", **attributes))
        return name

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """A constant, once."""
        self._weights.setdefault(name, np.ascontiguousarray(values))
        return name

    def ints(self, *values: int) -> str:
        """A short list of int64."""
        return self.constant("ints_" + "_".join(map(str, values)), np.array(values, np.int64))

    def linear(self, x: str, name: str) -> str:
        """X times a weight, plus its bias."""
        if f"{name}.weight" not in self._weights:
            weight = float_array(self._arrays, f"{name}/weight")
            self.constant(f"{name}.weight", weight.T)
        out = self.node("MatMul", [x, f"{name}.weight"])
        if f"{name}/bias" not in self._arrays:
            return out
        bias = self.constant(f"{name}.bias", float_array(self._arrays, f"{name}/bias"))
        return self.node("Add", [out, bias])

    def norm(self, x: str, name: str) -> str:
        """Layer normalisation."""
        scale = self.constant(f"{name}.scale", float_array(self._arrays, f"{name}/gamma"))
        bias = self.constant(f"{name}.bias", float_array(self._arrays, f"{name}/beta"))
        return self.node("LayerNormalization", [x, scale, bias], axis=-1, epsilon=1e-5)

    def heads(self, x: str, dim: int) -> str:
        """(1, n, dim) as (1, heads, n, 64)."""
        shape = self.ints(1, -1, dim // _HEAD_DIM, _HEAD_DIM)
        return self.node("Transpose", [self.node("Reshape", [x, shape])], perm=[0, 2, 1, 3])

    def attend(self, q: str, k: str, v: str, dim: int) -> str:
        """Attention of heads without a mask, back to (1, n, dim)."""
        scale = self.constant("head_scale", np.array(_HEAD_DIM**-0.5, np.float32))
        turned = self.node("Transpose", [k], perm=[0, 1, 3, 2])
        scores = self.node("MatMul", [self.node("Mul", [q, scale]), turned])
        mixed = self.node("MatMul", [self.node("Softmax", [scores], axis=-1), v])
        rows = self.node("Transpose", [mixed], perm=[0, 2, 1, 3])
        return self.node("Reshape", [rows, self.ints(1, -1, dim)])

    def part(self, x: str, part: int, dim: int) -> str:
        """One of the equal parts, dim wide, of the last axis."""
        begin, end = self.ints(part * dim), self.ints((part + 1) * dim)
        return self.node("Slice", [x, begin, end, self.ints(2)])

    def feed_forward(self, x: str, name: str) -> str:
        """The two layers with GELU between them."""
        inner = self.linear(self.norm(x, f"{name}/layer_norm"), f"{name}/linear_0")
        return self.linear(self.node("Gelu", [inner]), f"{name}/linear_1")

    def save(self, path: Path, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Write the graph, checked."""
        import onnx

        weights = [onnx.numpy_helper.from_array(v, name) for name, v in self._weights.items()]
        graph = onnx.helper.make_graph(self._nodes, path.stem, list(inputs), list(outputs), weights)
        opset = [onnx.helper.make_opsetid("", _OPSET)]
        model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=10)
        onnx.checker.check_model(model)
        onnx.save(model, str(path))


def _encoder(arrays: Arrays, n_layers: int, dim: int, path: Path) -> None:
    graph = _Graph(arrays)
    x = "mel"
    for i, stride in ((1, 1), (2, 2)):
        name = f"encoder/conv{i}"
        kernel = graph.constant(f"{name}.weight", float_array(arrays, f"{name}/weight"))
        bias = graph.constant(f"{name}.bias", float_array(arrays, f"{name}/bias"))
        x = graph.node("Conv", [x, kernel, bias], pads=[1, 1], strides=[stride])
        x = graph.node("Gelu", [x])
    x = graph.node("Transpose", [x], perm=[0, 2, 1])
    places = graph.constant(
        "encoder.places", float_array(arrays, "encoder/position_encodings/encodings")
    )
    length = graph.node("Shape", [x], start=1, end=2)
    x = graph.node("Add", [x, graph.node("Slice", [places, graph.ints(0), length, graph.ints(0)])])
    for i in range(n_layers):
        name = f"encoder/layer_{i}"
        attention = f"{name}/self_attention"
        packed = graph.linear(graph.norm(x, f"{attention}/layer_norm"), f"{attention}/linear_0")
        q, k, v = (graph.heads(graph.part(packed, part, dim), dim) for part in range(3))
        x = graph.node(
            "Add", [x, graph.linear(graph.attend(q, k, v, dim), f"{attention}/linear_1")]
        )
        x = graph.node("Add", [x, graph.feed_forward(x, f"{name}/ffn")])
    x = graph.norm(x, "encoder/layer_norm")
    outputs = []
    for i in range(n_layers):
        packed = graph.linear(x, f"decoder/layer_{i}/attention/linear_1")
        for part, letter in enumerate("kv"):
            cut = graph.part(packed, part, dim)
            shape = graph.ints(1, -1, dim // _HEAD_DIM, _HEAD_DIM)
            rows = graph.node("Reshape", [cut, shape])
            graph.node("Transpose", [rows], f"cross_{letter}.{i}", perm=[0, 2, 1, 3])
            outputs.append(_floats(f"cross_{letter}.{i}", [1, dim // _HEAD_DIM, "S", _HEAD_DIM]))
    n_mels = int(arrays["encoder/conv1/weight"].shape[1])
    graph.save(path, [_floats("mel", [1, n_mels, "T"])], outputs)


def _decoder(arrays: Arrays, n_layers: int, dim: int, path: Path) -> None:
    graph = _Graph(arrays)
    table = float_array(arrays, "decoder/embeddings/weight")
    graph.constant("decoder.tokens", table)
    graph.constant("decoder.places", float_array(arrays, "decoder/position_encodings/encodings"))
    row = graph.node("Gather", ["decoder.tokens", "token"], axis=0)
    place = graph.node("Gather", ["decoder.places", "position"], axis=0)
    x = graph.node("Reshape", [graph.node("Add", [row, place]), graph.ints(1, 1, dim)])
    for i in range(n_layers):
        name = f"decoder/layer_{i}"
        own = f"{name}/self_attention"
        packed = graph.linear(graph.norm(x, f"{own}/layer_norm"), f"{own}/linear_0")
        q, k, v = (graph.heads(graph.part(packed, part, dim), dim) for part in range(3))
        k = graph.node("Concat", [f"past_k.{i}", k], f"next_k.{i}", axis=2)
        v = graph.node("Concat", [f"past_v.{i}", v], f"next_v.{i}", axis=2)
        x = graph.node("Add", [x, graph.linear(graph.attend(q, k, v, dim), f"{own}/linear_1")])
        cross = f"{name}/attention"
        q = graph.heads(
            graph.linear(graph.norm(x, f"{cross}/layer_norm"), f"{cross}/linear_0"), dim
        )
        seen = graph.attend(q, f"cross_k.{i}", f"cross_v.{i}", dim)
        x = graph.node("Add", [x, graph.linear(seen, f"{cross}/linear_2")])
        x = graph.node("Add", [x, graph.feed_forward(x, f"{name}/ffn")])
    last = graph.node("Reshape", [graph.norm(x, "decoder/layer_norm"), graph.ints(1, dim)])
    graph.constant("decoder.projection", table.T)
    graph.node("MatMul", [last, "decoder.projection"], "logits")
    graph.save(path, *_decoder_ends(n_layers, dim, len(table)))


def _decoder_ends(n_layers: int, dim: int, n_tokens: int) -> tuple[list[Any], list[Any]]:
    import onnx

    heads = dim // _HEAD_DIM
    whole = onnx.TensorProto.INT64
    inputs = [
        onnx.helper.make_tensor_value_info(name, whole, [1]) for name in ("token", "position")
    ]
    outputs = [_floats("logits", [1, n_tokens])]
    for i in range(n_layers):
        for letter in "kv":
            inputs.append(_floats(f"past_{letter}.{i}", [1, heads, "P", _HEAD_DIM]))
            inputs.append(_floats(f"cross_{letter}.{i}", [1, heads, "S", _HEAD_DIM]))
            outputs.append(_floats(f"next_{letter}.{i}", [1, heads, "N", _HEAD_DIM]))
    return inputs, outputs


def _floats(name: str, shape: Sequence[int | str]) -> Any:
    import onnx

    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list(shape))
