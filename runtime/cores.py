"""One owner hands out processor cores, so that the models never oversubscribe them.

llama.cpp and its like become ten times slower when more threads compute than there are cores, so
every heavy call first takes a core here. Whoever is more urgent gets the next free one.
"""

from __future__ import annotations

import heapq
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

# Workers give way to the frame loop when both want the same core (Linux counts nice per thread).
_WORKER_NICE = 5


class Urgency(IntEnum):
    """Who goes first; lower is sooner."""

    VOICE = 0  # the next clause must be there before the last one has been played
    TURN = 1  # decides whether the user has finished
    RECOGNISER = 2
    LANGUAGE = 3
    AHEAD = 4  # work that is thrown away if the user goes on


def available_cores() -> int:
    """Cores this process may run on (affinity and container limits included), at least 1."""
    if sys.platform == "linux":
        n_cores = min(len(os.sched_getaffinity(0)), _cgroup_cores())
    else:
        n_cores = os.cpu_count() or 1
    return max(1, n_cores)


def _cgroup_cores() -> int:
    """Whole cores that a container's quota leaves, or a large number without a quota."""
    try:
        with Path("/sys/fs/cgroup/cpu.max").open(encoding="ascii") as handle:
            quota, period = handle.read().split()[:2]
    except (OSError, ValueError):
        return 1 << 16
    return 1 << 16 if quota == "max" else max(1, int(quota) // int(period))


def n_running() -> int | None:
    """Threads of the whole machine that compute or want to at this moment, the caller included.

    None where the system does not tell (only Linux does).
    """
    try:
        with Path("/proc/loadavg").open(encoding="ascii") as handle:
            return int(handle.read().split()[3].split("/")[0])
    except (OSError, ValueError, IndexError):
        return None


def lower_thread_priority() -> None:
    """Let the calling thread give way to the loop; does nothing where threads have no own nice."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _WORKER_NICE)


class CoreBudget:
    """A fixed number of cores, given to the most urgent of those who wait, oldest first."""

    def __init__(self, n_cores: int, n_running: Callable[[], int | None] = n_running) -> None:
        """n_running: how many threads of the machine compute now, the asking one included."""
        if n_cores < 1:
            raise ValueError(f"a budget needs at least one core, got {n_cores}")
        self.n_cores, self._n_running = n_cores, n_running
        self._free = n_cores
        self._waiting: list[tuple[int, int]] = []
        self._tickets = itertools.count()
        self._changed = threading.Condition()

    @contextmanager
    def core(self, urgency: Urgency, *, most: int = 1) -> Iterator[int]:
        """Hold one core while the block runs; waits until one is free and nobody is more urgent.

        most: take up to so many, as far as they are free, nobody waits for them and no other
        program computes on them. Yields how many there are to compute with.
        """
        ticket = (int(urgency), next(self._tickets))
        with self._changed:
            heapq.heappush(self._waiting, ticket)
            self._changed.wait_for(lambda: self._free > 0 and self._waiting[0] == ticket)
            heapq.heappop(self._waiting)
            n_held = 1 if most == 1 or self._waiting else max(1, min(most, self._idle()))
            self._free -= n_held
            self._changed.notify_all()
        try:
            yield n_held
        finally:
            with self._changed:
                self._free += n_held
                self._changed.notify_all()

    def _idle(self) -> int:
        """Cores of the budget on which nobody computes, not even another program.

        Threads that share their work wait for the slowest: one that is not alone on its core
        slows all of them down. Where nothing is known of other programs, one core is theirs.
        """
        running = self._n_running()
        if running is None:
            return self._free - 1
        return min(self._free, self.n_cores - (running - 1))
