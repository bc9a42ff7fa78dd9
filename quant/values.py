"""The numbers that a model's weights stand for, whatever they are stored as."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ArtifactError
from edge.safetensors import to_float32
from export.gguf_read import GgufFile, read_gguf
from quant.onnx_matmul import dequantize_blocks, read_weight
from quant.subject import Item, Part, Subject
from runtime.backends.ggml import NAMES, Ggml

Float32 = NDArray[np.float32]

_FLOATS = {"f32": "F32", "f16": "F16", "bf16": "BF16"}
_WIDTHS = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16}


class Values:
    """Reads one model's weights by part and name; files are opened once."""

    def __init__(self, subject: Subject) -> None:
        self._parts = {part.name: part for part in subject.parts}
        self._graphs: dict[str, tuple[dict[str, Any], dict[str, int], Path]] = {}
        self._ggufs: dict[str, GgufFile] = {}
        self._ggml: Ggml | None = None

    def read(self, item: Item, *, n_rows: int | None = None) -> Float32:
        """A weight of the float model, or of a smaller one by the same name, as float32.

        n_rows: of a GGUF's matrix, only so many rows spread over it. Raises ArtifactError where
        the model has no such weight.
        """
        part = self._parts.get(item.part.name)
        if part is None:
            raise ArtifactError(f"there is no part {item.part.name!r}; it is another model")
        if part.engine == "gguf":
            return self._from_gguf(part, item.name, n_rows)
        return self._from_graph(part, item)

    def stored(self, item: Item) -> str:
        """How a GGUF's weight is stored; "graph" for others."""
        part = self._parts[item.part.name]
        if part.engine != "gguf":
            return "graph"
        file = self._gguf(part)
        return next((NAMES.get(t.ggml_type, "?") for t in file.tensors if t.name == item.name), "?")

    def _gguf(self, part: Part) -> GgufFile:
        if part.name not in self._ggufs:
            self._ggufs[part.name] = read_gguf(part.path)
        return self._ggufs[part.name]

    def _from_gguf(self, part: Part, name: str, n_rows: int | None) -> Float32:
        file = self._gguf(part)
        tensor = next((one for one in file.tensors if one.name == name), None)
        if tensor is None:
            raise ArtifactError(f"{part.path.name} has no tensor {name}; it is another model")
        kind = NAMES.get(tensor.ggml_type, "")
        if not kind:
            raise ArtifactError(f"{name} is of ggml type {tensor.ggml_type}, which is not known")
        self._ggml = self._ggml or Ggml()
        width = tensor.shape[-1]
        row_bytes = self._ggml.row_bytes(kind, width)
        n_all = int(np.prod(tensor.shape[:-1]))
        raw = file.read(tensor, n_all * row_bytes).reshape(n_all, row_bytes)
        if n_rows is not None and n_rows < n_all:
            raw = raw[np.linspace(0, n_all - 1, n_rows).astype(int)]
        if kind in _FLOATS:
            values = np.ascontiguousarray(raw).view(_WIDTHS[kind])
            return np.asarray(to_float32(values, _FLOATS[kind]), np.float32).reshape(-1, width)
        return self._ggml.dequantize(kind, raw, width)

    def _from_graph(self, part: Part, item: Item) -> Float32:
        constants, widths, folder = self._graph(part)
        name = item.name

        def get(ending: str) -> NDArray[Any] | None:
            tensor = constants.get(name + ending)
            return None if tensor is None else np.asarray(read_weight(tensor, folder))

        plain = get("")
        if plain is not None:
            return plain.astype(np.float32)
        for way in (_from_u8, _from_blocks, _from_f16):
            values = way(get, item, widths.get(name, 0))
            if values is not None:
                return values
        raise ArtifactError(f"{part.path.name} has no weight {name}; it is another model")

    def _graph(self, part: Part) -> tuple[dict[str, Any], dict[str, int], Path]:
        if part.name not in self._graphs:
            import onnx

            model = onnx.load(str(part.path), load_external_data=False)
            constants = {tensor.name: tensor for tensor in model.graph.initializer}
            widths = {}
            for node in model.graph.node:
                if node.op_type == "MatMulNBits":
                    k = next(int(a.i) for a in node.attribute if a.name == "K")
                    widths[_stem(node.input[1])] = k
            self._graphs[part.name] = (constants, widths, part.path.parent)
        return self._graphs[part.name]


Get = Callable[[str], "NDArray[Any] | None"]


def _stem(name: str) -> str:
    for ending in (".blocks", ".q4", ".q8"):
        if name.endswith(ending):
            return name.removesuffix(ending)
    return name


def _from_u8(get: Get, item: Item, _width: int) -> Float32 | None:
    exact = get(".rows")
    if exact is not None:  # a codebook: what decides is the exact table, stored by row
        return np.ascontiguousarray(exact.astype(np.float32).T)
    steps, scale = get(".u8"), get(".u8_scale")
    if steps is None or scale is None:
        return None
    by_column = item.weight is not None and item.weight.kind in ("matmul", "search")
    shape = (1, -1) if by_column else (-1, *[1] * (steps.ndim - 1))
    values: Float32 = (steps.astype(np.float32) - 128) * scale.reshape(shape)
    return values


def _from_blocks(get: Get, _item: Item, width: int) -> Float32 | None:
    for packed_name, scale_name, bits in (
        (".q4", ".q4_scale", 4),
        (".q8", ".q8_scale", 8),
        (".blocks", ".scales", 0),
    ):
        packed, scales = get(packed_name), get(scale_name)
        if packed is None or scales is None:
            continue
        found = bits or (4 if packed.shape[2] * 2 == 32 else 8)
        rows = dequantize_blocks(packed, scales, found)
        return np.ascontiguousarray(rows[:, :width].T)
    return None


def _from_f16(get: Get, _item: Item, _width: int) -> Float32 | None:
    values = get(".f16")
    return None if values is None else values.astype(np.float32)


def sqnr_db(reference: Float32, other: Float32) -> float:
    """Signal to quantization noise in decibels; infinite where the two are equal."""
    signal = float(np.square(reference, dtype=np.float64).sum())
    noise = float(np.square(np.asarray(other, np.float64) - reference).sum())
    if noise == 0:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal else float("-inf")
