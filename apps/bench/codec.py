"""Bench of codecs: frame by frame, ours and the peers in turn, in one process, same weights."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import EdgeError
from edge.frame import FRAME_MS, FRAME_NS, Pcm
from export.mimi_peer import PEER_MISSING
from runtime.models.mimi import MimiCodec
from runtime.models.mimi_probe import probe_sound

Codes = NDArray[np.int64]

PEERS = ("rustymimi", "moshi")
_N_WARM = 5


@dataclass(frozen=True, slots=True)
class Engine:
    """One stream of one implementation: a frame to codes, codes to a frame."""

    encode: Callable[[Pcm], Codes]
    decode: Callable[[Codes], Pcm]


def our_engine(artifact: Path, threads: int) -> tuple[str, Engine]:
    """A stream of one of our artifacts, and its preset's name."""
    codec = MimiCodec(artifact, threads=threads)
    codec.warm_up()
    state = codec.start()
    return codec.recipe, Engine(
        lambda pcm: codec.encode(state, pcm)[1], lambda codes: codec.decode(state, codes)[1]
    )


def rusty_engine(checkpoint: Path, n_codebooks: int) -> Engine:
    """A stream of rustymimi; its thread pool follows RAYON_NUM_THREADS."""
    try:
        rustymimi: Any = importlib.import_module("rustymimi")
    except ImportError as exc:
        raise EdgeError(PEER_MISSING.format("rustymimi")) from exc
    peer = rustymimi.Tokenizer(str(checkpoint), num_codebooks=n_codebooks)
    return Engine(
        lambda pcm: peer.encode_step(pcm[None, None])[0, :, 0].astype(np.int64),
        lambda codes: peer.decode_step(codes[None, :, None].astype(np.uint32))[0, 0],
    )


def moshi_engine(checkpoint: Path, n_codebooks: int, threads: int) -> Engine:
    """A stream of the official PyTorch codec."""
    from export.mimi_peer import official_stream

    return Engine(*official_stream(checkpoint, n_codebooks, threads))


def interleaved(
    engines: Mapping[str, Engine],
    n_frames: int,
    on_frame: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Every engine encodes and decodes each frame in turn, so that caches are as cold as in life.

    Returns, for each engine, quantiles of wall and processor milliseconds a frame, and the share
    of its codes that equal the first engine's. All decode the first engine's codes.
    """
    names = list(engines)
    wall: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    cpu: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    equal = dict.fromkeys(names, 0.0)
    for index, pcm in enumerate(probe_sound(n_frames + _N_WARM, seed=2)):
        want: Codes | None = None
        for name in names:
            encoded, codes = _timed(engines[name].encode, pcm)
            want = codes if want is None else want
            decoded, _ = _timed(engines[name].decode, want)
            if index >= _N_WARM:
                wall[name].append((encoded[0], decoded[0]))
                cpu[name].append((encoded[1], decoded[1]))
                equal[name] += float(np.mean(codes == want)) / n_frames
        if on_frame is not None:
            on_frame(index + 1, n_frames + _N_WARM)
    return {
        name: {
            "wall_ms": _quantiles(np.array(wall[name])),
            "cpu_ms": _quantiles(np.array(cpu[name])),
            "codes_equal_to_first": round(equal[name], 4),
        }
        for name in names
    }


def paced(engine: Engine, n_frames: int) -> dict[str, Any]:
    """One frame every 80 ms, encode and decode: how long each takes when caches have gone cold.

    Returns quantiles of wall milliseconds and the share of one core in use.
    """
    taken_ms = []
    sound = probe_sound(n_frames, seed=2)
    began_ns, began_cpu = time.monotonic_ns(), time.process_time()
    for index, pcm in enumerate(sound):
        wait_ns = began_ns + index * FRAME_NS - time.monotonic_ns()
        if wait_ns > 0:
            time.sleep(wait_ns / 1e9)
        start_ns = time.perf_counter_ns()
        engine.decode(engine.encode(pcm))
        taken_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
    used_s = time.process_time() - began_cpu
    return {
        "wall_ms": _spread(np.array(taken_ms[_N_WARM:])),
        "core_share": round(used_s / (n_frames * FRAME_MS / 1000), 3),
    }


def _timed(work: Callable[[Any], Any], value: Any) -> tuple[tuple[float, float], Any]:
    """Wall and processor milliseconds of a call, and its result."""
    cpu_ns, wall_ns = time.process_time_ns(), time.perf_counter_ns()
    result = work(value)
    wall_ms = (time.perf_counter_ns() - wall_ns) / 1e6
    return (wall_ms, (time.process_time_ns() - cpu_ns) / 1e6), result


def _quantiles(pairs: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    """Of encoding, decoding and both together."""
    encode, decode = pairs.T
    parts = {"encode": encode, "decode": decode, "both": encode + decode}
    return {name: _spread(values) for name, values in parts.items()}


def _spread(values: NDArray[np.float64]) -> dict[str, float]:
    found = zip(("p10", "p50", "p95", "p99"), np.percentile(values, (10, 50, 95, 99)), strict=True)
    return {name: round(float(point), 3) for name, point in found}
