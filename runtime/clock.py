"""Clocks that drive the loop: real time, a hand-turned one, and one that skips idle waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

# Sleeping much longer than this at once would make a clock slow to notice that work has ended.
_POLL_NS = 1_000_000


class Clock(Protocol):
    """Monotonic time in nanoseconds."""

    def now_ns(self) -> int:
        """Nanoseconds since an arbitrary start; never goes back."""

    def sleep_until_ns(self, t_ns: int) -> None:
        """Return when now_ns() >= t_ns; at once if that is so already."""


class SystemClock:
    """Real time."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def sleep_until_ns(self, t_ns: int) -> None:
        while (left_ns := t_ns - time.monotonic_ns()) > 0:
            time.sleep(left_ns / 1e9)


class ManualClock:
    """Stands still until told to move; a sleep moves it at once."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        return self._now_ns

    def sleep_until_ns(self, t_ns: int) -> None:
        self._now_ns = max(self._now_ns, t_ns)

    def advance_ns(self, dt_ns: int) -> None:
        """Move forward by dt_ns >= 0."""
        if dt_ns < 0:
            raise ValueError(f"a clock cannot go back: {dt_ns} ns")
        self._now_ns += dt_ns


class FastClock:
    """Real time while work is going on, no time at all while everybody waits.

    Latencies measured on it are therefore the real ones, but a file with long pauses, or the
    playing of a long reply, takes no longer than the computation in it.
    busy: whether any worker computes now; asked between short sleeps.
    """

    def __init__(self, busy: Callable[[], bool]) -> None:
        self._busy = busy
        self._skipped_ns = 0

    def now_ns(self) -> int:
        return time.monotonic_ns() + self._skipped_ns

    def sleep_until_ns(self, t_ns: int) -> None:
        while (left_ns := t_ns - self.now_ns()) > 0:
            if not self._busy():
                self._skipped_ns += left_ns
                return
            time.sleep(min(left_ns, _POLL_NS) / 1e9)
