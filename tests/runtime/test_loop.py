"""The loop: frames in order, replies in order, lateness counted, everything closed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import pytest

from edge.frame import FRAME_NS, FRAME_SAMPLES, Event, Frame, Pcm, Reply
from runtime.clock import ManualClock
from runtime.engines.engine import Context
from runtime.loop import run
from runtime.sound.port import PortCounters
from runtime.trace import Trace


@dataclass
class EchoEngine:
    """Says each frame back, louder; its state is the number of frames so far."""

    slow_frames: tuple[int, ...] = ()
    finished: list[int] = field(default_factory=list)

    def warm_up(self) -> None:
        return None

    def start(self, *, seed: int, context: Context) -> int:
        return seed

    def step(self, state: int, frame: Frame) -> tuple[int, Reply]:
        if frame.index in self.slow_frames:
            time.sleep(0.09)
        events = (Event("yielded"),) if frame.index == 3 else ()
        return state + 1, Reply(frame.index, frame.pcm * 2, events=events)

    def idle(self, state: int) -> bool:
        return True

    def finish(self, state: int) -> None:
        self.finished.append(state)


@dataclass
class ListPort:
    """Frames from a list; keeps what was written."""

    frames: list[Pcm]
    clock: ManualClock
    written: list[Pcm] = field(default_factory=list)
    n_flushed: int = 0
    closed: list[bool] = field(default_factory=list)

    def open(self) -> None:
        return None

    def read(self, *, engine_idle: bool) -> Pcm | None:
        self.clock.advance_ns(FRAME_NS)
        return self.frames.pop(0) if self.frames else None

    def write(self, pcm: Pcm) -> None:
        self.written.append(pcm)

    def flush(self) -> int:
        self.n_flushed += 1
        return 0

    def delay_ms(self) -> float | None:
        return None

    def counters(self) -> PortCounters:
        return PortCounters()

    def close(self, *, completed: bool) -> None:
        self.closed.append(completed)


def frames(n: int) -> list[Pcm]:
    return [np.full(FRAME_SAMPLES, i / 100, np.float32) for i in range(n)]


def test_each_frame_gets_its_reply_in_order() -> None:
    engine, port, seen = EchoEngine(), ListPort(frames(6), clock := ManualClock()), []
    report = run(
        engine, port, clock, seed=0, context=Context(), trace=Trace(),
        observe=lambda frame, reply: seen.append((frame.index, reply.index, frame.captured_ns)),
    )  # fmt: skip
    assert seen == [(i, i, (i + 1) * FRAME_NS) for i in range(6)]
    assert [float(p[0]) for p in port.written] == pytest.approx([i / 50 for i in range(6)])
    assert engine.finished == [6]
    assert port.closed == [True]
    assert report.timings["frames"]["count"] == 6  # type: ignore[index]


def test_yielding_flushes_what_is_queued() -> None:
    port = ListPort(frames(6), clock := ManualClock())
    run(EchoEngine(), port, clock, seed=0, context=Context(), trace=Trace())
    assert port.n_flushed == 1


def test_a_step_longer_than_a_frame_is_a_missed_frame() -> None:
    trace = Trace()
    run(
        EchoEngine(slow_frames=(2,)), ListPort(frames(4), clock := ManualClock()), clock,
        seed=0, context=Context(), trace=trace,
    )  # fmt: skip
    assert (trace.n_frames, trace.n_missed) == (4, 1)


def test_an_engine_that_fails_still_has_its_port_closed_as_incomplete() -> None:
    class Broken(EchoEngine):
        def step(self, state: int, frame: Frame) -> tuple[int, Reply]:
            raise ValueError("broken")

    engine, port = Broken(), ListPort(frames(2), clock := ManualClock())
    with pytest.raises(ValueError, match="broken"):
        run(engine, port, clock, seed=0, context=Context(), trace=Trace())
    assert port.closed == [False]
    assert engine.finished == [0]


def test_stop_ends_before_the_next_frame() -> None:
    port = ListPort(frames(9), clock := ManualClock())
    run(
        EchoEngine(), port, clock, seed=0, context=Context(), trace=Trace(),
        stop=lambda: len(port.written) >= 3,
    )  # fmt: skip
    assert len(port.written) == 3
