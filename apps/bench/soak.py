"""Bench of endurance: a long conversation with interruptions; memory and latency must stay flat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from apps.bench.quantiles import quantiles
from apps.bench.talker import RandomTalker
from apps.session import Session, TurnLog, cleared
from edge.frame import FRAME_MS, Frame, Pcm, Reply
from runtime.trace import Trace, rss_mb

_SAMPLES = 60  # points of the memory curve


@dataclass(slots=True)
class _Curve:
    """Memory and latency along the run."""

    every_frames: int
    told: Callable[[dict[str, float]], None] | None = None
    points: list[dict[str, float]] = field(default_factory=list)
    latencies: list[tuple[float, float]] = field(default_factory=list)

    def observe(self, frame: Frame, reply: Reply) -> None:
        at_s = frame.index * FRAME_MS / 1000
        for event in reply.events:
            if event.kind == "reply_started":
                latency = event.facts["latency_ms"]
                assert isinstance(latency, dict)
                self.latencies.append((at_s, float(latency["total"])))
        if frame.index % self.every_frames == 0:
            point = {"at_s": round(at_s, 1), "rss_mb": round(rss_mb(), 1)}
            self.points.append(point)
            if self.told:
                self.told(point)


def run_soak(
    session: Session,
    sounds: Sequence[Pcm],
    *,
    minutes: float,
    interrupt_p: float,
    seed: int = 0,
    told: Callable[[dict[str, float]], None] | None = None,
) -> dict[str, Any]:
    """Talk for `minutes` of the session's clock; the report has curves and slopes.

    sounds: what the simulated user says, float32 (n,), 24 kHz each.

    rss_slope_mb_per_h and latency_slope_ms_per_h are least-squares slopes over the second half,
    after everything has been loaded and every buffer has reached its size.
    """
    n_frames = int(minutes * 60_000 / FRAME_MS)
    talker = RandomTalker(sounds, session.clock, n_frames, seed=seed, interrupt_p=interrupt_p)
    curve = _Curve(max(1, n_frames // _SAMPLES), told)
    trace, log = Trace(), TurnLog()
    port = cleared(session.config.audio, talker, echo=False)
    loop = session.talk(port, trace=trace, log=log, also=curve.observe)
    silent = [i.silent_after_ms for i in talker.interruptions if i.silent_after_ms is not None]
    half = minutes * 30
    return {
        "minutes": minutes,
        "asked": talker.n_asked,
        "answered": len(log.turns),
        "interruptions": len(talker.interruptions),
        "never_silent": len(talker.interruptions) - len(silent),
        "silent_after_ms": quantiles(silent),
        "latency_ms": quantiles([ms for _, ms in curve.latencies]),
        "latency_slope_ms_per_h": slope_per_h([p for p in curve.latencies if p[0] >= half]),
        "rss_slope_mb_per_h": slope_per_h(
            [(p["at_s"], p["rss_mb"]) for p in curve.points if p["at_s"] >= half]
        ),
        "peak_rss_mb": round(loop.peak_rss_mb, 1),
        "memory": curve.points,
        **loop.timings,
    }


def slope_per_h(points: list[tuple[float, float]]) -> float:
    """Least-squares slope of (seconds, value) points, per hour; 0 for fewer than three."""
    if len(points) < 3:
        return 0.0
    at_s, value = np.array(points).T
    return round(float(np.polyfit(at_s, value, 1)[0]) * 3600, 1)
