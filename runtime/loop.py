"""START HERE: the fixed 80 ms loop. Read a frame, step the engine, write the reply.

Twelve and a half times a second, and what is late is counted. The one policy for being late, for
every engine and every port: **the newest sound counts**. A step that takes longer than 80 ms is a
missed frame. Meanwhile the speaker plays silence, never old samples twice; frames of microphone
that have piled up beyond `[loop] max_behind_frames` are dropped oldest first and counted, so that
latency never creeps up. Nothing is ever queued without a bound.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from edge.frame import FRAME_NS, Frame, Reply
from runtime.clock import Clock
from runtime.engines.engine import Context, Engine
from runtime.sound.port import AudioPort, PortCounters
from runtime.trace import Span, Trace, peak_rss_mb, rss_mb

S = TypeVar("S")
Observer = Callable[[Frame, Reply], None]


@dataclass(frozen=True, slots=True)
class LoopReport:
    """What a run came to. timings: Trace.summary(). counters: the port's. Memory in MiB."""

    timings: dict[str, object]
    counters: PortCounters
    rss_mb: float
    peak_rss_mb: float


def run(
    engine: Engine[S],
    port: AudioPort,
    clock: Clock,
    *,
    seed: int,
    context: Context,
    trace: Trace,
    observe: Observer | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> LoopReport:
    """Hold one conversation from the port's first frame to its last, or until stop().

    The engine must be warm. observe sees every frame and reply after the reply was handed to the
    port; it must return quickly. Whatever happens the port is closed and the state is freed.
    """
    state = engine.start(seed=seed, context=context)
    completed = False
    try:
        port.open()
        index = 0
        while not stop():
            pcm = port.read(engine_idle=engine.idle(state))
            if pcm is None:
                break
            frame = Frame(index, clock.now_ns(), pcm)
            began_ns = time.monotonic_ns()
            state, reply = engine.step(state, frame)
            ended_ns = time.monotonic_ns()
            if any(event.kind == "yielded" for event in reply.events):
                port.flush()
            port.write(reply.pcm)
            trace.frame(index, began_ns, ended_ns, missed=ended_ns - began_ns > FRAME_NS)
            _record_stages(trace, reply)
            if observe:
                observe(frame, reply)
            index += 1
        completed = True
    finally:
        engine.finish(state)
        port.close(completed=completed)
    return LoopReport(trace.summary(), port.counters(), rss_mb(), peak_rss_mb())


def _record_stages(trace: Trace, reply: Reply) -> None:
    """Pass on the timings of work that ended on a worker since the last frame."""
    for event in reply.events:
        if event.kind == "stage":
            facts = event.facts
            span = (str(facts["name"]), int(str(facts["began_ns"])), int(str(facts["ended_ns"])))
            trace.stage(Span(*span))
