"""The depth transformer as one ONNX graph a frame: all codebooks unrolled, sampling inside.

Graph: hidden float32 (rows, dim), text_token int64 (1,), noise float32 (dep_q, card),
forced int64 (dep_q,), top_k int64 (1,), inverse_temperature float32 (1,), guidance float32 (1,)
-> codes int64 (dep_q,), logits float32 (dep_q, card).

A code is the argmax of logit * inverse_temperature + noise among the top_k best logits in falling
order, which with Gumbel noise is a draw from their softmax and with top_k 1 the best code exactly.
forced: a code to take in place of the drawn one, -1 for none. Two rows are a conversation with and
without its condition: logits = second + guidance * (first - second); one row is left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.safetensors import Tensor
from export.graph_writer import MICROSOFT, GraphWriter
from export.moshi_config import LAYER_EPSILON, RMS_EPSILON, DepthConfig, MoshiConfig

Float32 = NDArray[np.float32]


class Weights(Protocol):
    """Where the builder gets tensors from; MoshiCheckpoint is one."""

    config: MoshiConfig

    def read(self, name: str) -> Tensor:
        """One tensor by its newest official name."""


@dataclass(slots=True)
class _Cache:
    """What a layer has seen in this frame: (rows, kv_heads, head_dim, 1) keys, values alike."""

    keys: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)


def export_depth(checkpoint: Weights, path: Path, *, n_steps: int) -> None:
    """Write the graph to path and its weights to path + ".data".

    n_steps: how many codebooks to write, from the first; at most what the checkpoint has.
    """
    data = path.with_name(path.name + ".data")
    graph = GraphWriter(data)
    try:
        DepthGraph(checkpoint, graph, n_steps).build()
        graph.save(path, "depth")
    except BaseException:
        graph.close()
        raise


class DepthGraph:
    """Builds the graph; one instance, one build."""

    def __init__(self, checkpoint: Weights, graph: GraphWriter, n_steps: int) -> None:
        if checkpoint.config.depth is None:
            raise ValueError("this model has no depth transformer")
        self.checkpoint, self.graph, self.n_steps = checkpoint, graph, n_steps
        self.config = checkpoint.config
        self.depth: DepthConfig = checkpoint.config.depth
        self.head_dim = self.depth.dim // self.depth.n_heads
        self.kv_heads = self.depth.n_heads // self.depth.kv_repeat
        self.inputs: dict[int, str] = {}
        self.caches = [_Cache() for _ in range(self.depth.n_layers)]

    def build(self) -> None:
        graph, card = self.graph, self.config.card
        graph.input("hidden", np.float32, ("rows", self.config.dim))
        token = graph.input("text_token", np.int64, (1,))
        graph.input("noise", np.float32, (self.n_steps, card))
        graph.input("forced", np.int64, (self.n_steps,))
        graph.input("top_k", np.int64, (1,))
        graph.input("inverse_temperature", np.float32, (1,))
        graph.input("guidance", np.float32, (1,))
        codes, all_logits = [], []
        for step in range(self.n_steps):
            x = graph.node("Add", [self._from_hidden(step), self._embed(step, token)])
            for layer in range(self.depth.n_layers):
                x = self._layer(layer, step, x)
            logits = self._guided(self._head(step, x))
            token = self._choose(step, logits)
            codes.append(token)
            all_logits.append(logits)
        graph.output(
            graph.node("Concat", codes, axis=0) if len(codes) > 1 else codes[0],
            "codes",
            np.int64,
            (self.n_steps,),
        )
        graph.output(
            graph.node("Concat", all_logits, axis=0), "logits", np.float32, (self.n_steps, card)
        )

    def _from_hidden(self, step: int) -> str:
        """The main transformer's state as this step sees it; computed once for each projection."""
        index = self.depth.schedule[step] if self.depth.multi_linear else 0
        if index not in self.inputs:
            self.inputs[index] = self.linear(f"depformer_in.{index}", "hidden", step)
        return self.inputs[index]

    def _embed(self, step: int, token: str) -> str:
        """The row (1, dim) of the token before: text for the first step, then codes."""
        name = "depformer_text_emb" if step == 0 else f"depformer_emb.{step - 1}"
        if not self.graph.has_weight(name):
            self.graph.weight(name, normed_table(self.checkpoint, name))
        row = self.graph.node("Gather", [name, token], axis=0)
        if self.depth.low_rank:
            row = self.linear(f"{name}.low_rank", row, step)
        if self.depth.sin_positions:
            position = sin_position(step, self.depth.dim)
            row = self.graph.node("Add", [row, self.graph.weight(f"position.{step}", position)])
        return row

    def _layer(self, layer: int, step: int, x: str) -> str:
        """Attention over this frame's steps so far, then the gated feed-forward."""
        graph, index = self.graph, self.depth.schedule[step]
        prefix = f"depformer.layers.{layer}"
        normed = self._norm(f"{prefix}.norm1", self.depth.norm, x)
        qkv = self.linear(f"{prefix}.self_attn.in_projs.{index}", normed, step, query=True)
        attended = self._attention(self.caches[layer], qkv)
        out = self.linear(f"{prefix}.self_attn.out_projs.{index}", attended, step)
        x = graph.node("Add", [x, out])
        normed = self._norm(f"{prefix}.norm2", self.depth.norm, x)
        both = self.linear(f"{prefix}.gating.{index}.linear_in", normed, step)
        gate, up = graph.nodes("Split", [both], 2, axis=1, num_outputs=2)
        gate = graph.node("QuickGelu", [gate], domain=MICROSOFT, alpha=1.0)  # this is SiLU
        hidden = graph.node("Mul", [gate, up])
        down = self.linear(f"{prefix}.gating.{index}.linear_out", hidden, step)
        return graph.node("Add", [x, down])

    def _attention(self, cache: _Cache, qkv: str) -> str:
        """From stacked q, k and v (rows, ...) to (rows, dim), over all steps of the cache."""
        graph, depth, kv_dim = self.graph, self.depth, self.kv_heads * self.head_dim
        sizes = graph.constant([depth.dim, kv_dim, kv_dim])
        query, key, value = graph.nodes("Split", [qkv, sizes], 3, axis=1)
        flat = [0, self.kv_heads, depth.kv_repeat, self.head_dim]
        query = graph.node("Reshape", [query, graph.constant(flat)])
        # Keys are kept as columns: no transposition is needed to multiply with them.
        column = graph.constant([0, self.kv_heads, self.head_dim, 1])
        row = graph.constant([0, self.kv_heads, 1, self.head_dim])
        cache.keys.append(graph.node("Reshape", [key, column]))
        cache.values.append(graph.node("Reshape", [value, row]))
        if len(cache.keys) == 1:
            keys, values = cache.keys[0], cache.values[0]
        else:
            keys = graph.node("Concat", cache.keys, axis=3)
            values = graph.node("Concat", cache.values, axis=2)
        weights = graph.node("Softmax", [graph.node("MatMul", [query, keys])], axis=-1)
        mixed = graph.node("MatMul", [weights, values])
        return graph.node("Reshape", [mixed, graph.constant([0, depth.dim])])

    def _head(self, step: int, x: str) -> str:
        if self.depth.out_norm:
            x = self._norm(f"depformer_norms.{step}", self.depth.out_norm, x)
        return self.linear(f"linears.{step}", x, step)

    def _guided(self, logits: str) -> str:
        """(rows, card) -> (1, card); exact for one row, whose difference from itself is 0."""
        graph = self.graph
        first = graph.node("Gather", [logits, graph.constant([0])], axis=0)
        last = graph.node("Gather", [logits, graph.constant([-1])], axis=0)
        away = graph.node("Mul", [graph.node("Sub", [first, last]), "guidance"])
        return graph.node("Add", [last, away])

    def _choose(self, step: int, logits: str) -> str:
        """(1, card) -> the code (1,)."""
        graph = self.graph
        best, indices = graph.nodes("TopK", [logits, "top_k"], 2, axis=1)
        scaled = graph.node("Mul", [best, "inverse_temperature"])
        noise = graph.node("Gather", ["noise", graph.constant([step])], axis=0)
        zero, one = graph.constant([0]), graph.constant([1])
        noise = graph.node("Slice", [noise, zero, "top_k", one])
        place = graph.node("ArgMax", [graph.node("Add", [scaled, noise])], axis=1, keepdims=0)
        drawn = graph.node("Gather", [graph.node("Squeeze", [indices, zero]), place], axis=0)
        given = graph.node("Gather", ["forced", graph.constant([step])], axis=0)
        is_free = graph.node("Less", [given, zero])
        return graph.node("Where", [is_free, drawn, given])

    def linear(self, name: str, x: str, step: int, *, query: bool = False) -> str:
        """A projection, its weight stored as (in, out). query: its first rows are queries."""
        if not self.graph.has_weight(name):
            weight = self.checkpoint.read(f"{name}.weight").float32()
            if query:
                weight = weight.copy()
                weight[: self.depth.dim] /= np.sqrt(np.float32(self.head_dim))
            self.graph.weight(name, np.ascontiguousarray(weight.T))
        return self.graph.node("MatMul", [x, name], name=f"{name}/step{step}")

    def _norm(self, name: str, kind: str, x: str) -> str:
        graph = self.graph
        if kind in LAYER_EPSILON:
            scale = graph.weight(f"{name}.weight", self._vector(f"{name}.weight"))
            bias = graph.weight(f"{name}.bias", self._vector(f"{name}.bias"))
            return graph.node(
                "LayerNormalization", [x, scale, bias], axis=-1, epsilon=LAYER_EPSILON[kind]
            )
        scale = graph.weight(f"{name}.alpha", self._vector(f"{name}.alpha"))
        return graph.node(
            "SimplifiedLayerNormalization", [x, scale], axis=-1, epsilon=RMS_EPSILON[kind]
        )

    def _vector(self, name: str) -> Float32:
        return self.checkpoint.read(name).float32().reshape(-1)


def normed_table(checkpoint: Weights, name: str) -> Float32:
    """An embedding table as float32, the LayerNorm of a model that has one applied to its rows."""
    table = checkpoint.read(f"{name}.weight").float32()
    if not checkpoint.config.norm_emb:
        return table
    scale = checkpoint.read(f"{name}.norm.weight").float32()
    bias = checkpoint.read(f"{name}.norm.bias").float32()
    mean = table.mean(axis=1, keepdims=True)
    spread = np.sqrt(table.var(axis=1, keepdims=True) + np.float32(LAYER_EPSILON["layer_norm"]))
    return np.asarray((table - mean) / spread * scale + bias, np.float32)


def sin_position(step: int, dim: int) -> Float32:
    """The sinusoidal position of a step, float32 (1, dim): cosines, then sines."""
    half = dim // 2
    exponent = np.arange(half, dtype=np.float32) / np.float32(half - 1)
    phase = np.float32(step) / np.float32(10_000.0) ** exponent
    return np.concatenate([np.cos(phase), np.sin(phase)])[None].astype(np.float32)
