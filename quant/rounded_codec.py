"""A codec in memory whose weights are rounded to see what that does: to its codes, to its sound.

What changes codes is noise in the scores by which each level chooses its entry, held against the
lead of the best entry over the next; levels stand at the float model's own choices, so that one
changed code does not count for those after it. What changes sound is noise in what the decoder
makes of the float model's codes. Both are smooth where counting changed codes is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.onnx_graph import edit
from quant.onnx_products import GraphEditor
from quant.onnx_weights import Weight, rounded, weights_of
from quant.subject import Subject, load_editor
from runtime.backends.ort import open_session
from runtime.models.mimi import DECODER, ENCODER, ring_of
from runtime.models.mimi_state import RingShape, SideState

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

TOKENS, SOUND = "tokens", "sound"
KIND_OF = {ENCODER: TOKENS, DECODER: SOUND}


@dataclass(frozen=True, slots=True)
class _Chain:
    """Levels that choose one after another, each for what the one before has left.

    heard: the value that the first level is given. tables: float32 (width, bins), by weight.
    """

    heard: str
    tables: Mapping[str, Float32]


class RoundedCodec:
    """Runs one stretch of sound through both graphs with any weights rounded."""

    def __init__(self, subject: Subject, frames: Float32) -> None:
        """subject: a float codec. frames: float32 (n, 1920)."""
        manifest = subject.manifest
        assert manifest is not None
        self._ring: RingShape = ring_of(manifest, subject.path)[0]
        self._graphs = {side: manifest.graph(side) for side in KIND_OF}
        parts = {part.name: part for part in subject.parts}
        self._models = {side: load_editor(parts[side].path).model for side in KIND_OF}
        self._chains = _chains(GraphEditor(_copy(self._models[ENCODER])))
        self._frames = frames
        heard = self._encode({})
        self._codes = np.stack(heard["codes"]).astype(np.int64)
        self._scores = self._scored(heard, {})
        leads = [np.partition(one, -2, axis=1)[:, -2:] for one in self._scores]
        self._leads = [float(np.square(lead[:, 1] - lead[:, 0]).mean()) or 1.0 for lead in leads]
        self._sound = self._decode({})
        self._energy = float(np.square(self._sound, dtype=np.float64).sum()) or 1.0

    def kind_of(self, part: str) -> str:
        """The kind of damage that rounding does in a graph."""
        return KIND_OF[part]

    def damages(self, precisions: Mapping[str, str]) -> dict[str, float]:
        """What rounding does, by kind; precisions: label -> what it becomes, others stay float."""
        found = {}
        for side, kind in KIND_OF.items():
            wanted = _of_side(precisions, side)
            if not wanted:
                continue
            if kind == TOKENS:
                scores = self._scored(self._encode(wanted), wanted)
                noise = [
                    float(np.square(_centred(a - b)).mean()) / lead
                    for a, b, lead in zip(scores, self._scores, self._leads, strict=True)
                ]
                found[kind] = float(np.mean(noise))
            else:
                noisy = self._decode(wanted)
                noise_energy = np.square((noisy - self._sound).astype(np.float64)).sum()
                found[kind] = float(noise_energy) / self._energy
        return found

    def file_bytes(self, precisions: Mapping[str, str]) -> int:
        """Bytes of both files."""
        return sum(
            int(self._edited(side, _of_side(precisions, side), []).ByteSize()) for side in KIND_OF
        )

    def _encode(self, wanted: Mapping[str, str]) -> dict[str, list[Float32]]:
        return self._run(ENCODER, wanted, "pcm", self._frames, [c.heard for c in self._chains])

    def _decode(self, wanted: Mapping[str, str]) -> Float32:
        out = self._run(DECODER, wanted, "codes", self._codes, [])["pcm"]
        return np.concatenate([frame.reshape(-1) for frame in out])

    def _run(
        self, side: str, wanted: Mapping[str, str], name: str, inputs: Any, watched: list[str]
    ) -> dict[str, list[Float32]]:
        model = self._edited(side, wanted, watched)
        session = open_session(model.SerializeToString(), name=side)
        state = SideState(self._ring, self._graphs[side])
        kept: dict[str, list[Float32]] = {}
        for one in inputs:
            state.buffers[name][...] = one
            outputs = session.run(state.inputs[state.parity])
            for key, buffer in state.outputs[state.parity].items():
                buffer[...] = outputs[key]
            state.advance()
            for key in (*watched, "codes" if side == ENCODER else "pcm"):
                kept.setdefault(key, []).append(np.array(outputs[key]))
        return kept

    def _edited(self, side: str, wanted: Mapping[str, str], watched: list[str]) -> Any:
        from onnx import TensorProto, helper

        editor = GraphEditor(_copy(self._models[side]))
        edit(editor, wanted, side=side)
        model = editor.finish()
        for name in watched:
            model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        return model

    def _scored(
        self, heard: Mapping[str, list[Float32]], wanted: Mapping[str, str]
    ) -> list[Float32]:
        """How near every entry of every level is, float32 (frames, bins) each."""
        found, level = [], 0
        for chain in self._chains:
            rest = np.concatenate([one.reshape(1, -1) for one in heard[chain.heard]])
            for name, exact in chain.tables.items():
                table = exact if name not in wanted else _half(exact, wanted[name])
                found.append(rest @ table - np.square(exact).sum(0) / 2)
                rest = rest - table.T[self._codes[:, level]]
                level += 1
        return found


def _half(table: Float32, precision: str) -> Float32:
    return rounded(Weight("", "search", table.shape), table, precision)


def _chains(editor: GraphEditor) -> list[_Chain]:
    """The encoder's searches, in the order of its codes."""
    nodes = {product.weight: node for product, node in editor.products()}
    searches = [weight.name for weight in weights_of(editor) if weight.kind == "search"]
    order = {node.output[0]: i for i, node in enumerate(editor.model.graph.node)}
    searches.sort(key=lambda name: order[nodes[name].output[0]])
    made = {node.output[0]: node.op_type for node in editor.model.graph.node}
    starts = [i for i, name in enumerate(searches) if made.get(nodes[name].input[0]) != "Sub"]
    chains = []
    for begin, end in pairwise([*starts, len(searches)]):
        tables = {name: editor.array(name) for name in searches[begin:end]}
        chains.append(_Chain(nodes[searches[begin]].input[0], tables))
    return chains


def _of_side(precisions: Mapping[str, str], side: str) -> dict[str, str]:
    """Of one graph, by the weights' own names, those that change."""
    found = {}
    for label, precision in precisions.items():
        part, _, rest = label.partition(":")
        if part == side and precision != "float":
            found[rest.partition(":")[2]] = precision
    return found


def _centred(scores: Float32) -> Float32:
    """What all entries gain alike changes no choice."""
    found: Float32 = scores - scores.mean(axis=1, keepdims=True)
    return found


def _copy(model: Any) -> Any:
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made
