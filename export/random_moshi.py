"""An artifact of a published model's size with random weights: for measuring speed, not speech.

Weights are made already quantized. One block pattern per shape is made and repeated, because the
time of a step does not depend on the values; so gigabytes are written as fast as the disk takes
them, in flat memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.atomic import atomic_path
from edge.errors import UsageError
from edge.manifest import Manifest, RecipeRecord, record_file, write_manifest
from edge.safetensors import Tensor, from_float32
from export.depth_net import DepthGraph
from export.gguf import GgufTensor, write_gguf
from export.graph_writer import MICROSOFT, GraphWriter
from export.moshi_checkpoint import Shape, expected_shapes
from export.moshi_config import LEGACY, MoshiConfig, parse_config
from export.temporal_gguf import temporal_metadata
from runtime.backends.ggml import TYPES, Ggml
from runtime.models.multistream.artifact import KIND, needed_files
from runtime.models.multistream.spec import (
    AUDIO_TABLE_FILE,
    DEPTH_FILE,
    TEMPORAL_FILE,
    TEXT_TABLE_FILE,
    MoshiSpec,
)

_DELAYS = [0, 0, *[1] * 7, 0, *[1] * 7]
_HIDDEN, _DEPTH_HIDDEN = 11_264, 2_816
_BLOCK = 32
MODELS: dict[str, dict[str, Any]] = {"moshi-7b": {**LEGACY, "delays": _DELAYS}}
HIDDEN_OF = {"moshi-7b": (_HIDDEN, _DEPTH_HIDDEN)}


class RandomWeights:
    """Tensors of a config, made when they are asked for, all out of one short noise."""

    def __init__(self, config: MoshiConfig, hidden: int, depth_hidden: int) -> None:
        self.config = config
        self._shapes: dict[str, Shape] = dict(expected_shapes(config))
        self._free = {"transformer": hidden, "depformer": depth_hidden}
        self._noise = np.random.default_rng(0).standard_normal(1 << 22, np.float32)

    def names(self) -> list[str]:
        """The newest official name of every tensor."""
        return list(self._shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape."""
        free = self._free.get(name.partition(".")[0], 0) * (2 if "linear_in" in name else 1)
        return tuple(free if size is None else size for size in self._shapes[name])

    def read(self, name: str) -> Tensor:
        """A tensor of values that keep a deep network's states of order one."""
        shape = self.shape(name)
        values = np.resize(self._noise, shape)
        if name.endswith("alpha"):
            values = np.ones(shape, np.float32)
        elif len(shape) > 1:
            values = values * np.float32(shape[-1] ** -0.5)
        return Tensor("F32", values)


class _RandomDepth(DepthGraph):
    """The depth graph with matrices that are random blocks from the start."""

    def __init__(self, weights: RandomWeights, graph: GraphWriter, bits: int) -> None:
        super().__init__(weights, graph, weights.config.dep_q)
        self._weights, self._bits = weights, bits
        self._rng = np.random.default_rng(1)

    def linear(self, name: str, x: str, step: int, *, query: bool = False) -> str:
        """A projection by MatMulNBits."""
        del query
        n_out, n_in = self._weights.shape(f"{name}.weight")
        blocks, scales = f"{name}.blocks", f"{name}.scales"
        if not self.graph.has_weight(blocks):
            shape = (n_out, n_in // _BLOCK, _BLOCK * self._bits // 8)
            self.graph.weight(blocks, self._rng.integers(0, 256, shape, np.uint8))
            scale = n_in**-0.5 / (1 << (self._bits - 1))
            self.graph.weight(scales, np.full(n_out * n_in // _BLOCK, scale, np.float32))
        return self.graph.node(
            "MatMulNBits",
            [x, blocks, scales],
            name=f"{name}/step{step}",
            domain=MICROSOFT,
            K=n_in,
            N=n_out,
            bits=self._bits,
            block_size=_BLOCK,
            accuracy_level=4,
        )


def layers_of(model: str) -> int:
    """Layers of the main transformer of a published size. Raises UsageError."""
    if model not in MODELS:
        raise UsageError(f"no size is known of {model!r}; known are {', '.join(MODELS)}")
    return int(MODELS[model]["num_layers"])


def parse_size(model: str, n_layers: int = 0) -> MoshiConfig:
    """The config of a published size, with n_layers layers where that is not 0."""
    return parse_config({**MODELS[model], "num_layers": n_layers or layers_of(model)})


def make_random(
    model: str,
    out: Path,
    *,
    temporal: Callable[[str], str] = lambda _name: "q4_K",
    name: str = "q4_K",
    depth_bits: int = 4,
    n_layers: int = 0,
    on_tensor: Callable[[str, int], None] | None = None,
) -> Path:
    """Write the artifact. n_layers: of the main transformer, 0 for all. Raises UsageError.

    temporal: gives the type of each of its matrices; name: what to call that.
    """
    config = parse_size(model, n_layers)
    weights = RandomWeights(config, *HIDDEN_OF[model])
    spec = _spec(config)
    with atomic_path(out) as folder:
        folder.mkdir()
        needed = 5 * 10**9 * config.n_layers // 32 + 10**9
        if shutil.disk_usage(folder).free < needed:
            raise UsageError(f"{out}: {model} needs about {needed / 1e9:.1f} GB of disk")
        _write_temporal(weights, folder / TEMPORAL_FILE, temporal, on_tensor)
        _write_tables(config, folder)
        graph = GraphWriter(folder / f"{DEPTH_FILE}.data")
        try:
            _RandomDepth(weights, graph, depth_bits).build()
            graph.save(folder / DEPTH_FILE, "depth")
        finally:
            graph.close()
        names = [*needed_files(spec), f"{DEPTH_FILE}.data"]
        write_manifest(
            folder,
            Manifest(
                kind=KIND,
                files=tuple(record_file(folder, name) for name in sorted(names)),
                config=spec.as_table(),
                recipe=RecipeRecord("random", {"temporal": name, "depth": f"int{depth_bits}"}),
            ),
        )
    return out


def _write_temporal(
    weights: RandomWeights,
    path: Path,
    kind_of: Callable[[str], str],
    on_tensor: Callable[[str, int], None] | None,
) -> None:
    """The GGUF: matrices of one shape share their blocks."""
    config, ggml = weights.config, Ggml()
    dim, kv_dim = config.dim, config.kv_dim
    hidden = weights.shape("transformer.layers.0.gating.linear_out.weight")[1]
    matrices = {
        "attn_q": (dim, dim), "attn_k": (kv_dim, dim), "attn_v": (kv_dim, dim),
        "attn_output": (dim, dim), "ffn_gate": (hidden, dim), "ffn_up": (hidden, dim),
        "ffn_down": (dim, hidden),
    }  # fmt: skip
    head = (config.text_card_out, dim)
    ones = np.ones(dim, np.float32)
    made: dict[tuple[str, tuple[int, ...]], NDArray[Any]] = {}

    def blocks(kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
        if (kind, shape) not in made:
            rng = np.random.default_rng(shape[0])
            rows = rng.standard_normal((256, shape[1])).astype(np.float32) * shape[1] ** -0.5
            some = ggml.quantize(kind, rows.astype(np.float32))
            made[kind, shape] = np.resize(some, (shape[0], some.shape[1]))
        return made[kind, shape]

    def matrix(name: str, shape: tuple[int, ...]) -> GgufTensor:
        kind = kind_of(name)
        if kind not in TYPES:
            raise UsageError(f"unknown GGUF type {kind!r}; known are {', '.join(TYPES)}")
        n_bytes = ggml.row_bytes(kind, shape[1]) * shape[0]
        return GgufTensor(name, shape, TYPES[kind], n_bytes, partial(blocks, kind, shape))

    def norm(name: str) -> GgufTensor:
        return GgufTensor(name, (dim,), TYPES["f32"], 4 * dim, lambda: ones)

    tensors = [matrix("token_embd.weight", head), norm("output_norm.weight")]
    for layer in range(config.n_layers):
        prefix = f"blk.{layer}"
        tensors += [norm(f"{prefix}.attn_norm.weight"), norm(f"{prefix}.ffn_norm.weight")]
        tensors += [matrix(f"{prefix}.{name}.weight", shape) for name, shape in matrices.items()]
    metadata = temporal_metadata(config, hidden, "F16")
    write_gguf(path, metadata, tensors, source="random", on_tensor=on_tensor)


def _write_tables(config: MoshiConfig, folder: Path) -> None:
    """Input tables in bfloat16, rows of noise."""
    rng = np.random.default_rng(2)
    for name, shape in (
        (TEXT_TABLE_FILE, (config.text_card + 1, config.dim)),
        (AUDIO_TABLE_FILE, (config.n_q, config.card + 1, config.dim)),
    ):
        rows = rng.standard_normal((64, config.dim)).astype(np.float32) * np.float32(0.2)
        with (folder / name).open("wb") as file:
            np.save(file, np.resize(from_float32(rows, "BF16"), shape), allow_pickle=False)


def _spec(config: MoshiConfig) -> MoshiSpec:
    return MoshiSpec(
        model_type=config.model_type,
        dim=config.dim,
        n_layers=config.n_layers,
        context=config.context,
        delays=config.delays,
        n_own=config.n_own,
        depth_steps=config.dep_q,
        card=config.card,
        text_card=config.text_card,
        text_card_out=config.text_card_out,
        text_padding_id=config.text_padding_id,
        text_end_padding_id=config.text_end_padding_id,
        n_extra_heads=0,
        extra_head_dim=6,
        table_dtype="BF16",
        float_kv=False,
        conditions={},
        tokenizer_sha256="",
    )
