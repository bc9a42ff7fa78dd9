from __future__ import annotations

import numpy as np
import pytest

from edge.errors import ShapeError
from edge.frame import FRAME_NS, silence
from runtime.clock import ManualClock
from runtime.sound.null import NullPort


def test_it_gives_n_frames_of_silence_on_time_and_ends() -> None:
    clock = ManualClock(5)
    port = NullPort(clock, n_frames=10)
    port.open()
    heard = [port.read(engine_idle=True) for _ in range(10)]
    assert not np.concatenate([pcm for pcm in heard if pcm is not None]).any()
    assert clock.now_ns() == 5 + 10 * FRAME_NS
    assert port.read(engine_idle=True) is None


def test_a_step_within_its_frame_does_not_move_the_beat() -> None:
    clock = ManualClock()
    port = NullPort(clock)
    port.open()
    for n in range(1, 6):
        port.read(engine_idle=False)
        assert clock.now_ns() == n * FRAME_NS
        clock.advance_ns(FRAME_NS - 1)
    assert port.counters().n_dropped_in == 0


def test_a_late_loop_gets_the_newest_frames_at_once_and_the_rest_are_counted() -> None:
    clock = ManualClock()
    port = NullPort(clock, max_behind_frames=3)
    port.open()
    clock.advance_ns(10 * FRAME_NS)
    assert port.counters().n_pending_in == 10
    for _ in range(3):
        port.read(engine_idle=False)
        assert clock.now_ns() == 10 * FRAME_NS
    assert port.counters().n_dropped_in == 7
    port.read(engine_idle=False)
    assert clock.now_ns() == 11 * FRAME_NS


def test_it_takes_whole_frames_only_and_nothing_comes_back() -> None:
    port = NullPort(ManualClock())
    port.open()
    port.write(silence())
    assert port.flush() == 0
    assert port.delay_ms() is None
    with pytest.raises(ShapeError):
        port.write(np.zeros(7, np.float32))
    port.close(completed=True)
