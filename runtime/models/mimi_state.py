"""One stream's state of one side of the codec: buffers, the attention ring, angles and mask.

The graphs are pure; everything that depends on how long the stream has run is made here. Positions
are integers and angles come from them in float64: after a week a stream is as exact as at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ArtifactError
from edge.manifest import GraphSpec, TensorSpec

Array = NDArray[Any]

_BLOCKED = np.float32(-1e9)  # exp of it is 0, and no infinity can become NaN


@dataclass(frozen=True, slots=True)
class RingShape:
    """What the host must know of a codec: its attention, and how wide a rotary angle table is.

    n_positions: transformer positions a frame. context: slots of the ring.
    """

    n_positions: int
    context: int
    n_layers: int
    n_heads: int
    head_dim: int
    max_period: float


class SideState:
    """The encoder's or the decoder's state, with every buffer its graph reads and writes.

    Small states ping-pong: `inputs[p]` and `outputs[p]` are the two ways to bind the graph, p being
    the parity of the frame. Keys and values live in one ring that both ways read; `advance` writes
    the frame's few new slots.
    """

    def __init__(self, ring: RingShape, graph: GraphSpec) -> None:
        """Allocate for a graph of a manifest. Raises ArtifactError where the two do not fit."""
        self.ring = ring
        self.n_frames = 0
        dtype = next((spec.dtype for spec in graph.inputs if spec.name == "cache_k.0"), "float32")
        n_heads = ring.n_layers * ring.n_heads
        self.keys = np.zeros((n_heads, 1, ring.head_dim, ring.context), dtype)
        self.values = np.zeros((n_heads, 1, ring.context, ring.head_dim), dtype)
        exponents = np.arange(ring.head_dim // 2, dtype=np.float64) * (2 / ring.head_dim)
        self._frequencies = ring.max_period**-exponents
        self._steps = np.arange(ring.n_positions, dtype=np.float64)[:, None, None]
        caches = {}
        for layer in range(ring.n_layers):
            heads = slice(layer * ring.n_heads, (layer + 1) * ring.n_heads)
            caches[f"cache_k.{layer}"] = self.keys[heads]
            caches[f"cache_v.{layer}"] = self.values[heads]
        specs = (*graph.inputs, *graph.outputs)
        self.buffers: Mapping[str, Array] = caches | {
            spec.name: _zeros(spec) for spec in specs if spec.name not in caches
        }
        carried = [pair for pair in graph.states if pair.kind != "kv"]
        self.carried = tuple(pair.input for pair in carried)
        swap = {pair.input: pair.output for pair in carried}
        swap |= {pair.output: pair.input for pair in carried}
        self.inputs, self.outputs = (
            tuple(
                {spec.name: self.buffers[names.get(spec.name, spec.name)] for spec in side}
                for names in ({}, swap)
            )
            for side in (graph.inputs, graph.outputs)
        )
        missing = {"rope_cos", "rope_sin", "attn_mask", "new_k", "new_v"} - set(self.buffers)
        if missing:
            raise ArtifactError(f"{graph.file} lacks {sorted(missing)}; export the model again")
        self._write_position_inputs()

    @property
    def parity(self) -> int:
        """Which of the two bindings the next frame uses."""
        return self.n_frames & 1

    def advance(self) -> None:
        """After a run of the graph: keep what is new and prepare the next frame's inputs."""
        new_k, new_v = self.buffers["new_k"], self.buffers["new_v"]
        mask = self.buffers["attn_mask"]
        for step, slot in enumerate(self._slots()):
            self.keys[:, :, :, slot] = new_k[:, :, :, step]
            self.values[:, :, slot] = new_v[:, :, step]
            mask[:, 0, slot] = 0
        self.n_frames += 1
        self._write_angles()
        for slot in self._slots():
            mask[:, 0, slot] = _BLOCKED
        if "first" in self.buffers:
            self.buffers["first"][:] = 0

    def _slots(self) -> list[int]:
        """Ring slots of the frame's positions: what they hold is gone for this frame already."""
        first = self.n_frames * self.ring.n_positions
        return [(first + step) % self.ring.context for step in range(self.ring.n_positions)]

    def _write_angles(self) -> None:
        """Rotary cosines and sines of the frame's positions, each for a pair of neighbours."""
        angles = (self.n_frames * self.ring.n_positions + self._steps) * self._frequencies
        for name, values in (("rope_cos", np.cos(angles)), ("rope_sin", np.sin(angles))):
            table = self.buffers[name]
            table[..., 0::2] = values
            table[..., 1::2] = values

    def _write_position_inputs(self) -> None:
        """Everything that follows from the number of frames alone, from scratch."""
        n, context = self.ring.n_positions, self.ring.context
        mask = self.buffers["attn_mask"]
        mask.fill(0)
        mask[:, 0, context:] = np.triu(np.full((n, n), _BLOCKED), 1)
        mask[..., min(self.n_frames * n, context) : context] = _BLOCKED
        mask[..., self._slots()] = _BLOCKED
        self._write_angles()
        if "first" in self.buffers:
            self.buffers["first"][:] = 1 if self.n_frames == 0 else 0

    def snapshot(self) -> dict[str, Array]:
        """Copies of all that the next frame depends on, by name; `n_frames` among them."""
        now = self.inputs[self.parity]
        arrays = {"keys": self.keys, "values": self.values}
        arrays |= {name: now[name] for name in self.carried}
        return {
            "n_frames": np.array([self.n_frames], np.int64),
            **{name: array.copy() for name, array in arrays.items()},
        }

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Continue where a snapshot was taken. Raises ArtifactError for one of another model."""
        own = self.snapshot()
        for name, array in own.items():
            got = arrays.get(name)
            if got is None or got.shape != array.shape or got.dtype != array.dtype:
                raise ArtifactError(f"this state is of another model: {name} does not fit")
        self.n_frames = int(arrays["n_frames"][0])
        self.keys[...] = arrays["keys"]
        self.values[...] = arrays["values"]
        for name in self.carried:
            self.inputs[self.parity][name][...] = arrays[name]
        self._write_position_inputs()


def _zeros(spec: TensorSpec) -> Array:
    """A buffer for a tensor of fixed size; its memory is not touched before it is used."""
    shape = tuple(size for size in spec.shape if isinstance(size, int))
    if len(shape) != len(spec.shape):
        raise ArtifactError(f"{spec.name} has a free size {spec.shape}; export the model again")
    return np.zeros(shape, spec.dtype)
