"""What fits into a frame here: step time and memory of a multistream model, by arithmetic.

A step reads every weight once, so its time is bytes over bandwidth; what a machine really reaches
of its measured bandwidth is the share. Nothing here measures: the callers do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edge.frame import FRAME_MS

Placement = Literal["cpu", "gpu", "gpu+cpu"]

# Bits a weight takes, with its scales: (main transformer, depth transformer), most precise first.
PRECISIONS: Mapping[str, tuple[float, float]] = {
    "float": (16.0, 32.0),
    "int8": (8.5, 9.0),
    "compact": (4.9, 9.0),
    "int4": (4.5, 5.0),
}
KV_BITS: Mapping[str, float] = {"f16": 16.0, "q8_0": 8.5}
# Of the bandwidth of plain reading, what a step reached where it was measured.
DEFAULT_SHARE = 0.7
# A plan keeps this much of a frame for what it does not know of.
HEADROOM = 0.9
_FIXED_MS = 1.5  # sampling, delay lines and the calls themselves
_COMPUTE_BYTES = 300 << 20  # compute buffers, libraries, Python


@dataclass(frozen=True, slots=True)
class ModelSize:
    """A model in numbers. *_weights: matrix elements that a step reads.

    table_bytes: input tables, on the disk and mapped. cache_values: keys and values of one frame.
    context: frames the cache holds. codec_ms: encode and decode, 0 where not measured.
    codec_bytes: its weights.
    """

    temporal_weights: int
    depth_weights: int
    table_bytes: int
    cache_values: int
    context: int
    codec_ms: float = 0.0
    codec_bytes: int = 400 << 20


@dataclass(frozen=True, slots=True)
class Machine:
    """What was measured here. gpu_*: 0 where there is none. share: of bandwidth that is reached."""

    bandwidth_gb_s: float
    memory_bytes: int
    gpu_bandwidth_gb_s: float = 0.0
    gpu_memory_bytes: int = 0
    share: float = DEFAULT_SHARE


@dataclass(frozen=True, slots=True)
class Option:
    """One way to run a model. step_ms: with a full cache, the worst of a long conversation."""

    precision: str
    kv: str
    placement: Placement
    step_ms: float
    temporal_ms: float
    depth_ms: float
    memory_bytes: int
    gpu_memory_bytes: int
    fits_time: bool
    fits_memory: bool

    @property
    def fits(self) -> bool:
        """Whether it runs here in real time."""
        return self.fits_time and self.fits_memory


@dataclass(frozen=True, slots=True)
class Plan:
    """All options, most precise first, and the one to take; None: no precision fits."""

    options: tuple[Option, ...]
    choice: Option | None
    reason: str


def plan(size: ModelSize, machine: Machine) -> Plan:
    """Work out every option and choose the most precise that fits; the processor if it can."""
    placements: Sequence[Placement] = ("cpu",)
    if machine.gpu_bandwidth_gb_s > 0:
        placements = ("cpu", "gpu", "gpu+cpu")
    options = tuple(
        estimate(size, machine, precision, kv, placement)
        for precision in PRECISIONS
        for kv in KV_BITS
        for placement in placements
    )
    choice = next((option for option in options if option.fits), None)
    return Plan(options, choice, _reason(options, choice, machine))


def estimate(
    size: ModelSize, machine: Machine, precision: str, kv: str, placement: Placement
) -> Option:
    """Time and memory of one option."""
    temporal_bits, depth_bits = PRECISIONS[precision]
    temporal = int(size.temporal_weights * temporal_bits / 8)
    depth = int(size.depth_weights * depth_bits / 8)
    cache = int(size.cache_values * size.context * KV_BITS[kv] / 8)
    slow = machine.bandwidth_gb_s * machine.share
    fast = machine.gpu_bandwidth_gb_s * machine.share or slow
    temporal_ms = (temporal + cache) / 1e6 / (slow if placement == "cpu" else fast)
    depth_ms = depth / 1e6 / (fast if placement == "gpu" else slow)
    step_ms = temporal_ms + depth_ms + size.codec_ms + _FIXED_MS
    on_gpu = {"cpu": 0, "gpu": temporal + cache + depth, "gpu+cpu": temporal + cache}[placement]
    rest = temporal + cache + depth - on_gpu + size.table_bytes + size.codec_bytes + _COMPUTE_BYTES
    return Option(
        precision=precision,
        kv=kv,
        placement=placement,
        step_ms=round(step_ms, 1),
        temporal_ms=round(temporal_ms, 1),
        depth_ms=round(depth_ms, 1),
        memory_bytes=rest,
        gpu_memory_bytes=on_gpu,
        fits_time=step_ms <= FRAME_MS * HEADROOM,
        fits_memory=rest <= machine.memory_bytes and on_gpu <= machine.gpu_memory_bytes,
    )


def _reason(options: Sequence[Option], choice: Option | None, machine: Machine) -> str:
    """One line for people."""
    if choice is not None:
        return (
            f"{choice.precision} on {choice.placement}: about {choice.step_ms:.0f} ms of the "
            f"{FRAME_MS} ms of a frame"
        )
    quickest = min(options, key=lambda option: option.step_ms)
    if quickest.fits_time:
        need_gb = (quickest.memory_bytes + quickest.gpu_memory_bytes) / 1e9
        return f"memory: even {quickest.precision} takes {need_gb:.1f} GB; use the cascade"
    return (
        f"time: even {quickest.precision} takes about {quickest.step_ms:.0f} ms a frame at "
        f"{max(machine.bandwidth_gb_s, machine.gpu_bandwidth_gb_s):.0f} GB/s; use the cascade"
    )


@dataclass(frozen=True, slots=True)
class LivePlan:
    """How to run a model that is loaded and was timed. reason: one line for people."""

    kv: str
    overlap: bool
    fits: bool
    step_ms: float
    reason: str


def live_plan(
    step_ms: float, decode_ms: float, cache_ms: float, *, small_cache: bool = True
) -> LivePlan:
    """The least change to a measured step that makes it fit a frame with a full cache.

    step_ms: a whole step with an empty cache. decode_ms: the part of it that can run beside the
    next frame, at the price of 80 ms more delay. cache_ms: what reading a full float16 cache adds.
    small_cache: whether an 8-bit cache is possible.
    """
    limit_ms = FRAME_MS * HEADROOM
    kinds = ("f16", "q8_0") if small_cache else ("f16",)
    ways = [(kv, overlap) for overlap in (False, True) for kv in kinds]
    totals = {
        (kv, overlap): step_ms
        + cache_ms * KV_BITS[kv] / KV_BITS["f16"]
        - (decode_ms if overlap else 0.0)
        for kv, overlap in ways
    }
    for (kv, overlap), total in totals.items():
        if total <= limit_ms:
            said = f"a frame takes about {total:.0f} of {FRAME_MS} ms"
            said += ", the cache in 8 bits" if kv == "q8_0" else ""
            said += ", decoding beside the next frame" if overlap else ""
            return LivePlan(kv, overlap, True, round(total, 1), said)
    (kv, overlap), total = min(totals.items(), key=lambda item: item[1])
    said = f"a frame takes about {total:.0f} ms, NOT real time: it has {FRAME_MS} ms"
    return LivePlan(kv, overlap, False, round(total, 1), said)


class StepDown:
    """Says when a deadline that a plan promised is not being held.

    After n_late late frames within the last n_window the engine should step down; the count then
    begins anew.
    """

    def __init__(self, *, n_late: int = 10, n_window: int = 50) -> None:
        self._n_late = n_late
        self._recent = [False] * n_window
        self._at = 0

    def frame(self, step_ns: int) -> bool:
        """Take one frame's step time; whether to step down now."""
        self._recent[self._at % len(self._recent)] = step_ns > FRAME_MS * 1_000_000
        self._at += 1
        if sum(self._recent) < self._n_late:
            return False
        self._recent = [False] * len(self._recent)
        return True
