"""How large a multistream model is, for plans: an artifact's files or a published size."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.errors import UsageError
from edge.frame import FRAME_SAMPLES
from export.gguf_read import read_gguf
from export.random_moshi import HIDDEN_OF, MODELS, RandomWeights, parse_size
from runtime.models.multistream.spec import (
    AUDIO_TABLE_FILE,
    DEPTH_FILE,
    TEMPORAL_FILE,
    TEXT_TABLE_FILE,
    MoshiSpec,
)
from runtime.plan import ModelSize

_CODEC_FRAMES = 20
_STEP_FRAMES, _STEP_CONTEXT = 12, 64


def model_size(model: str, *, codec_ms: float = 0.0) -> ModelSize:
    """The size of an artifact or of a published model. Raises UsageError, ArtifactError."""
    if model in MODELS:
        return _published(model, codec_ms)
    folder = Path(model)
    if not folder.is_dir():
        raise UsageError(f"{model}: no artifact's folder, nor one of {', '.join(MODELS)}")
    return _artifact(folder, codec_ms)


def codec_ms(folder: Path) -> float:
    """Encode and decode of a frame here, the median in milliseconds."""
    from runtime.models.mimi import MimiCodec

    codec = MimiCodec(folder)
    codec.warm_up()
    state, times = codec.start(), []
    for _ in range(_CODEC_FRAMES):
        began = time.perf_counter()
        state, codes = codec.encode(state, np.zeros(FRAME_SAMPLES, np.float32))
        state, _ = codec.decode(state, codes)
        times.append(1e3 * (time.perf_counter() - began))
    return round(float(np.median(times)), 2)


@dataclass(frozen=True, slots=True)
class MeasuredStep:
    """What an artifact takes here as it is, with an almost empty cache; medians in milliseconds.

    share: of the measured bandwidth that its main transformer reaches.
    """

    recipe: str
    temporal_ms: float
    depth_ms: float
    share: float


def measured_step(folder: Path, *, threads: int, bandwidth_gb_s: float) -> MeasuredStep:
    """Load an artifact and step it a few times. Raises ArtifactError, MissingPackageError."""
    from runtime.models.moshi import MoshiModel

    model = MoshiModel(folder, threads=threads)
    state = model.start(seed=0, context=min(_STEP_CONTEXT, model.spec.context))
    user = np.zeros(model.spec.layout.n_user, np.int64)
    temporal, depth = [], []
    for _ in range(_STEP_FRAMES):
        state, _ = model.step(state, user)
        temporal.append(state.timing.temporal_ns / 1e6)
        depth.append(state.timing.depth_ns / 1e6)
    state.close()
    model.close()
    warm = _STEP_FRAMES // 3
    temporal_ms, depth_ms = (float(np.median(part[warm:])) for part in (temporal, depth))
    gb_s = (folder / TEMPORAL_FILE).stat().st_size / 1e6 / max(temporal_ms, 1e-6)
    share = min(1.0, max(0.05, gb_s / bandwidth_gb_s))
    return MeasuredStep(model.recipe, round(temporal_ms, 2), round(depth_ms, 2), round(share, 3))


def codec_beside(folder: Path) -> Path | None:
    """The codec in a model's folder or beside it, None where there is none."""
    places = (folder / "mimi", folder.parent / "mimi")
    return next((place for place in places if place.is_dir()), None)


def _published(model: str, codec_ms: float) -> ModelSize:
    config = parse_size(model)
    weights = RandomWeights(config, *HIDDEN_OF[model])
    temporal = depth = tables = 0
    for name in weights.names():
        n = math.prod(weights.shape(name))
        if name.startswith(("emb.", "text_emb.")):
            tables += 2 * n
        elif name.startswith(("transformer.", "text_linear.", "out_norm")):
            temporal += n
        elif not name.startswith(("depformer_emb.", "depformer_text_emb.")):
            depth += n
    cache = 2 * config.n_layers * config.kv_dim
    return ModelSize(temporal, depth, tables, cache, config.context, codec_ms)


def _artifact(folder: Path, codec_ms: float) -> ModelSize:
    from edge.manifest import read_manifest

    spec = MoshiSpec.from_table(read_manifest(folder).config)
    header = read_gguf(folder / TEMPORAL_FILE)
    temporal = sum(math.prod(tensor.shape) for tensor in header.tensors)
    kv_dim = (
        header.numbers["llama.attention.key_length"]
        * header.numbers["llama.attention.head_count_kv"]
    )
    depth = _depth_weights(folder / DEPTH_FILE) if spec.depth_steps else 0
    tables = sum((folder / name).stat().st_size for name in (AUDIO_TABLE_FILE, TEXT_TABLE_FILE))
    return ModelSize(temporal, depth, tables, 2 * spec.n_layers * kv_dim, spec.context, codec_ms)


def _depth_weights(path: Path) -> int:
    """Elements of the matrices in a depth graph, float or quantized; shared ones count once."""
    import onnx

    nodes = onnx.load(str(path), load_external_data=False).graph
    dims = {tensor.name: tuple(tensor.dims) for tensor in nodes.initializer}
    found: dict[str, int] = {}
    for node in nodes.node:
        if node.op_type == "MatMul" and node.input[1] in dims:
            found[node.input[1]] = math.prod(dims[node.input[1]])
        elif node.op_type == "MatMulNBits":
            size = {entry.name: entry.i for entry in node.attribute}
            found[node.input[1]] = size["K"] * size["N"]
    return sum(found.values())
