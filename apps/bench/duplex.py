"""How fast a multistream model steps here: stage by stage, and against what memory could give."""

from __future__ import annotations

import time
from collections.abc import Callable
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
_FILL = 32  # positions that are filled at once
_KV_BYTES = {"f32": 4.0, "f16": 2.0, "q8_0": 34 / 32}


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """n_frames: how many to measure. n_context: frames already in the cache when it begins.

    depth_device: of the depth transformer, by default the same as the rest.
    """

    n_frames: int = 100
    n_context: int = 0
    threads: int = 1
    device: str = "cpu"
    depth_device: str | None = None
    kv: Kv = "auto"
    seed: int = 0


def bench_duplex(
    model_dir: Path,
    codec_dir: Path | None,
    options: BenchOptions,
    *,
    bandwidth: Callable[[], float],
) -> dict[str, Any]:
    """Step a model with random user codes and measure every stage; plain values for JSON.

    Each step is followed by one of a bare loop over the same weights, so that both see the same
    machine. bandwidth: measures it in GB/s; asked before and after, the better counts.
    """
    before_gb_s = bandwidth()
    began = time.monotonic()
    model = MoshiModel(
        model_dir,
        threads=options.threads,
        device=options.device,
        depth_device=options.depth_device,
    )
    codec = MimiCodec(codec_dir, threads=options.threads) if codec_dir else None
    state = model.start(seed=options.seed, kv=options.kv)
    ready_s = time.monotonic() - began
    _fill(model, state, options.n_context)
    bare = BareLoop(model, state, options.n_context, options.n_frames + _WARM_UP_FRAMES)
    frames = Frames(model, codec, options.seed)
    stages: dict[str, Histogram] = {}
    n_missed = 0
    for i in range(-_WARM_UP_FRAMES, options.n_frames):
        times = frames.step(state)
        bare.step(measured=i >= 0)
        if i < 0:
            continue
        n_missed += times["step"] > FRAME_MS * 1_000_000
        for name, duration_ns in times.items():
            stages.setdefault(name, Histogram()).add(duration_ns)
    bare.close()
    traffic = frame_bytes(model, state)
    # What was measured is the processor's memory: a GPU's share of it would mean nothing.
    on_cpu = model.device == "cpu"
    report = _report(stages, bare.times, traffic, max(before_gb_s, bandwidth()) if on_cpu else 0.0)
    result = {
        "model": str(model_dir),
        "recipe": model.recipe,
        "layers": model.spec.n_layers,
        "threads": options.threads,
        "device": model.device,
        "depth_device": options.depth_device or options.device,
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


class Frames:
    """Random user codes through a model, with random sound through a codec where there is one."""

    def __init__(self, model: MoshiModel, codec: MimiCodec | None, seed: int) -> None:
        self._model, self._codec = model, codec
        self._rng = np.random.default_rng(seed)
        self._stream = None if codec is None else codec.start()

    def step(self, state: MoshiState) -> dict[str, int]:
        """One frame; what each stage took, in nanoseconds."""
        layout, times = self._model.spec.layout, {}
        user = self._rng.integers(0, layout.card, layout.n_user)
        began_ns = time.perf_counter_ns()
        if self._codec is not None and self._stream is not None:
            pcm = self._rng.uniform(-0.1, 0.1, FRAME_SAMPLES).astype(np.float32)
            self._stream, _ = self._codec.encode(self._stream, pcm)
            times["encode"] = time.perf_counter_ns() - began_ns
        state, out = self._model.step(state, user)
        timing = state.timing
        times |= {"temporal": timing.temporal_ns, "text": timing.text_ns}
        times["depth"] = timing.depth_ns
        if self._codec is not None and self._stream is not None and out.codes is not None:
            at_ns = time.perf_counter_ns()
            self._stream, _ = self._codec.decode(self._stream, out.codes[: layout.n_own])
            times["decode"] = time.perf_counter_ns() - at_ns
        times["step"] = time.perf_counter_ns() - began_ns
        return times


class BareLoop:
    """llama_decode over the same GGUF with nothing around it: what a step can be at best."""

    def __init__(self, model: MoshiModel, state: MoshiState, n_cached: int, n_frames: int) -> None:
        self.times = Histogram()
        self._context = model.bare_context(n_cached + n_frames + _FILL, state.settings.kv)
        self._position = 0
        x = np.zeros((_FILL, model.spec.dim), np.float32)
        while self._position + _FILL <= n_cached:
            self._context.decode_embeddings(x, self._position)
            self._position += _FILL
        self._context.decode_embeddings(x[:1], self._position)

    def step(self, *, measured: bool) -> None:
        """One more position."""
        self._position += 1
        began_ns = time.perf_counter_ns()
        self._context.decode_again(self._position)
        if measured:
            self.times.add(time.perf_counter_ns() - began_ns)

    def close(self) -> None:
        """Free its cache."""
        self._context.close()


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
    x = np.zeros((_FILL, model.spec.dim), np.float32)
    while state.window.next_position + _FILL <= min(n_frames, state.settings.n_context):
        state.context.decode_embeddings(x, state.window.next_position)
        state.window.next_position += _FILL


def _report(
    stages: dict[str, Histogram], bare: Histogram, traffic: dict[str, int], bandwidth_gb_s: float
) -> dict[str, Any]:
    """Stage times, and what share of the bandwidth each reaches at its median; 0 for unknown."""

    def reached(n_bytes: int, histogram: Histogram) -> dict[str, float | None]:
        gb_s = n_bytes / 1e6 / max(histogram.quantile_ms(0.5), 1e-6)
        share = round(gb_s / bandwidth_gb_s, 3) if bandwidth_gb_s else None
        return {"gb_per_s": round(gb_s, 2), "share": share}

    temporal = traffic["temporal"] + traffic["cache"]
    total = temporal + traffic["depth"]
    p99 = stages["step"].quantile_ms(0.99)
    return {
        "stage_ms": {name: histogram.summary() for name, histogram in stages.items()},
        "bare_llama_decode_ms": bare.summary(),
        "temporal_to_bare": round(
            stages["temporal"].quantile_ms(0.5) / max(bare.quantile_ms(0.5), 1e-6), 3
        ),
        "bytes_per_frame": traffic,
        "roofline": {
            "bandwidth_gb_per_s": round(bandwidth_gb_s, 2) if bandwidth_gb_s else None,
            "temporal": reached(temporal, stages["temporal"]),
            "depth": reached(traffic["depth"], stages["depth"]),
            "least_step_ms": round(total / 1e6 / bandwidth_gb_s, 1) if bandwidth_gb_s else None,
        },
        "real_time": p99 <= FRAME_MS,
    }
