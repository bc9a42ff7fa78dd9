"""Clocks never go back, and the fast one takes no time for waiting."""

from __future__ import annotations

import time

import pytest

from runtime.clock import FastClock, ManualClock, SystemClock


def test_a_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(5)
    clock.sleep_until_ns(100)
    clock.sleep_until_ns(50)
    clock.advance_ns(1)
    assert clock.now_ns() == 101
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance_ns(-1)


def test_the_system_clock_sleeps_long_enough() -> None:
    clock = SystemClock()
    due_ns = clock.now_ns() + 5_000_000
    clock.sleep_until_ns(due_ns)
    assert clock.now_ns() >= due_ns


def test_an_idle_fast_clock_jumps() -> None:
    clock = FastClock(lambda: False)
    began = time.monotonic()
    due_ns = clock.now_ns() + 3_600 * 10**9
    clock.sleep_until_ns(due_ns)
    assert clock.now_ns() >= due_ns
    assert time.monotonic() - began < 1


def test_a_busy_fast_clock_runs_in_real_time_until_the_work_is_done() -> None:
    answers = iter([True, True, True, False])
    clock = FastClock(lambda: next(answers))
    began_ns = time.monotonic_ns()
    due_ns = clock.now_ns() + 60 * 10**9
    clock.sleep_until_ns(due_ns)
    assert clock.now_ns() >= due_ns
    assert time.monotonic_ns() - began_ns >= 3_000_000
