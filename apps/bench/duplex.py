"""How fast a multistream model steps here: stage by stage, and against what memory could give."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.frame import FRAME_MS, FRAME_SAMPLES
from export.gguf_read import read_gguf
from runtime.models.mimi import MimiCodec
from runtime.models.moshi import Kv, MoshiModel
from runtime.models.multistream.spec import DEPTH_FILE, TEMPORAL_FILE
from runtime.models.multistream.state import MoshiState
from runtime.trace import Histogram, peak_rss_mb, rss_mb

_WARM_UP_FRAMES = 4
_KV_BYTES = {"f32": 4.0, "f16": 2.0, "q8_0": 34 / 32}


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """n_frames: how many to measure. n_context: frames already in the cache when it begins."""

    n_frames: int = 100
    n_context: int = 0
    threads: int = 1
    device: str = "cpu"
    kv: Kv = "auto"
    seed: int = 0


def bench_duplex(
    model_dir: Path, codec_dir: Path | None, options: BenchOptions, *, bandwidth_gb_s: float
) -> dict[str, Any]:
    """Step a model with random user codes and measure every stage; plain values for JSON."""
    began = time.monotonic()
    model = MoshiModel(model_dir, threads=options.threads, device=options.device)
    codec = MimiCodec(codec_dir, threads=options.threads) if codec_dir else None
    state = model.start(seed=options.seed, kv=options.kv)
    ready_s = time.monotonic() - began
    rng = np.random.default_rng(options.seed)
    layout = model.spec.layout
    _fill(model, state, options.n_context)
    stages = {name: Histogram() for name in ("temporal", "text", "depth", "step")}
    if codec is not None:
        stages |= {"encode": Histogram(), "decode": Histogram()}
    stream = codec.start() if codec is not None else None
    n_missed = 0
    for i in range(-_WARM_UP_FRAMES, options.n_frames):
        times: dict[str, int] = {}
        user = rng.integers(0, layout.card, layout.n_user)
        began_ns = time.perf_counter_ns()
        if codec is not None and stream is not None:
            pcm = rng.uniform(-0.1, 0.1, FRAME_SAMPLES).astype(np.float32)
            stream, _ = codec.encode(stream, pcm)
            times["encode"] = time.perf_counter_ns() - began_ns
        state, out = model.step(state, user)
        if codec is not None and stream is not None and out.codes is not None:
            at_ns = time.perf_counter_ns()
            stream, _ = codec.decode(stream, out.codes[: layout.n_own])
            times["decode"] = time.perf_counter_ns() - at_ns
        times["step"] = time.perf_counter_ns() - began_ns
        timing = state.timing
        times |= {
            "temporal": timing.temporal_ns, "text": timing.text_ns, "depth": timing.depth_ns,
        }  # fmt: skip
        if i < 0:
            continue
        n_missed += times["step"] > FRAME_MS * 1_000_000
        for name, duration_ns in times.items():
            stages[name].add(duration_ns)
    bare = bare_decode(model, state, min(options.n_frames, 30))
    traffic = frame_bytes(model, state)
    report = _report(stages, bare, traffic, bandwidth_gb_s)
    result = {
        "model": str(model_dir),
        "recipe": model.recipe,
        "layers": model.spec.n_layers,
        "threads": options.threads,
        "device": options.device,
        "kv": state.settings.kv,
        "cache_frames": options.n_context,
        "ready_s": round(ready_s, 2),
        "frames": {"count": options.n_frames, "missed": n_missed},
        **report,
        "rss_mb": {"now": round(rss_mb(), 1), "peak": round(peak_rss_mb(), 1)},
    }
    state.close()
    model.close()
    return result


def bare_decode(model: MoshiModel, state: MoshiState, n_frames: int) -> Histogram:
    """The same GGUF stepped with nothing around it: what the temporal stage can be at best."""
    found = Histogram()
    x = np.zeros((len(state.condition), model.spec.dim), np.float32)
    for _ in range(n_frames):
        state.make_room(quiet=False)
        began_ns = time.perf_counter_ns()
        state.context.decode_rows(x, state.window.next_position)
        found.add(time.perf_counter_ns() - began_ns)
        state.window.advance()
    return found


def frame_bytes(model: MoshiModel, state: MoshiState) -> dict[str, int]:
    """What a step must read at least: each matrix once, and the part of the cache in use."""
    spec = model.spec
    temporal = sum(_gguf_bytes(model.folder / TEMPORAL_FILE).values())
    numbers = read_gguf(model.folder / TEMPORAL_FILE).numbers
    head_dim = numbers["llama.attention.key_length"]
    kv_dim = head_dim * numbers["llama.attention.head_count_kv"]
    held = state.window.next_position - state.window.first + state.window.n_prefix
    cache = int(2 * spec.n_layers * kv_dim * held * _KV_BYTES[state.settings.kv])
    depth = 0
    if spec.depth_steps:
        # The embedding tables in it are not read whole: one row of each a frame.
        depth = _depth_bytes(model.folder / DEPTH_FILE)
    return {"temporal": temporal, "cache": cache, "depth": depth}


def _gguf_bytes(path: Path) -> dict[str, int]:
    """Size of each tensor: up to where the next one begins."""
    tensors = sorted(read_gguf(path).tensors, key=lambda tensor: tensor.begin)
    ends = [*(tensor.begin for tensor in tensors[1:]), path.stat().st_size]
    return {one.name: end - one.begin for one, end in zip(tensors, ends, strict=True)}


def _depth_bytes(path: Path) -> int:
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    tables = {node.input[0] for node in graph.node if node.op_type == "Gather"}
    total = 0
    for tensor in graph.initializer:
        where = {entry.key: entry.value for entry in tensor.external_data}
        if tensor.name not in tables:
            total += int(where.get("length", 0))
    return total


def _fill(model: MoshiModel, state: MoshiState, n_frames: int) -> None:
    """Put silence into the cache, many frames at once."""
    batch = 32
    x = np.zeros((batch, model.spec.dim), np.float32)
    while state.window.next_position + batch <= min(n_frames, state.settings.n_context):
        state.context.decode_embeddings(x, state.window.next_position)
        state.window.next_position += batch


def _report(
    stages: dict[str, Histogram], bare: Histogram, traffic: dict[str, int], bandwidth_gb_s: float
) -> dict[str, Any]:
    """Stage times, and what share of the measured bandwidth each reaches at its median."""

    def reached(n_bytes: int, histogram: Histogram) -> dict[str, float]:
        gb_s = n_bytes / 1e6 / max(histogram.quantile_ms(0.5), 1e-6)
        return {"gb_per_s": round(gb_s, 2), "share": round(gb_s / bandwidth_gb_s, 3)}

    temporal = traffic["temporal"] + traffic["cache"]
    total = temporal + traffic["depth"]
    p99 = stages["step"].quantile_ms(0.99)
    return {
        "stage_ms": {name: histogram.summary() for name, histogram in stages.items()},
        "bare_llama_decode_ms": bare.summary(),
        "bytes_per_frame": traffic,
        "roofline": {
            "bandwidth_gb_per_s": round(bandwidth_gb_s, 2),
            "temporal": reached(temporal, stages["temporal"]),
            "depth": reached(traffic["depth"], stages["depth"]),
            "least_step_ms": round(total / 1e6 / bandwidth_gb_s, 1),
        },
        "real_time": p99 <= FRAME_MS,
    }
