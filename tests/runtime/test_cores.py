"""Cores are never given twice, and the most urgent waiter goes first."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from runtime.cores import CoreBudget, Urgency, available_cores, n_running


def test_there_is_at_least_one_core() -> None:
    assert available_cores() >= 1
    with pytest.raises(ValueError, match="at least one"):
        CoreBudget(0)


def test_no_more_holders_than_cores() -> None:
    budget, lock, holding, most = CoreBudget(2), threading.Lock(), 0, 0

    def work() -> None:
        nonlocal holding, most
        for _ in range(50):
            with budget.core(Urgency.LANGUAGE):
                with lock:
                    holding += 1
                    most = max(most, holding)
                with lock:
                    holding -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert holding == 0
    assert 1 <= most <= 2


def test_more_cores_are_taken_only_while_they_are_free_and_nobody_waits() -> None:
    budget = CoreBudget(3, lambda: 1)
    with budget.core(Urgency.LANGUAGE, most=2) as n_held:
        assert n_held == 2
        with budget.core(Urgency.LANGUAGE, most=2) as n_more:
            assert n_more == 1
    with budget.core(Urgency.VOICE) as n_held:
        assert n_held == 1
    with budget.core(Urgency.LANGUAGE, most=8) as n_held:
        assert n_held == 3  # all have been given back


@pytest.mark.parametrize(("running", "n_held"), [(1, 4), (2, 3), (4, 1), (9, 1), (None, 3)])
def test_cores_on_which_other_programs_compute_are_left_to_them(
    running: int | None, n_held: int
) -> None:
    with CoreBudget(4, lambda: running).core(Urgency.LANGUAGE, most=4) as found:
        assert found == n_held


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what runs")
def test_a_program_that_computes_is_noticed() -> None:
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(available_cores())
    ]
    try:
        seen = max(n_running() or 0 for _ in range(2_000))
    finally:
        for program in busy:
            program.kill()
            program.wait()
    assert seen > len(busy)


def begun(budget: CoreBudget, *works: Callable[[], None]) -> list[threading.Thread]:
    """Threads that all wait for a core by now, in this order."""
    threads = [threading.Thread(target=work) for work in works]
    for n_waiting, thread in enumerate(threads, 1):
        thread.start()
        while len(budget._waiting) < n_waiting:
            time.sleep(0)
    return threads


def test_a_waiter_gets_the_core_that_another_might_have_taken_too() -> None:
    budget, held = CoreBudget(2, lambda: 1), []

    def work() -> None:
        with budget.core(Urgency.LANGUAGE, most=2) as n_held:
            held.append(n_held)
            both.wait(10)

    both = threading.Barrier(2)
    with budget.core(Urgency.VOICE, most=2):
        waiting = begun(budget, work, work)
    for thread in waiting:
        thread.join()
    assert held == [1, 1]


def test_the_most_urgent_waiter_is_served_first() -> None:
    budget, order = CoreBudget(1), []

    def work(urgency: Urgency) -> None:
        with budget.core(urgency):
            order.append(urgency)

    with budget.core(Urgency.AHEAD):
        urgencies = (Urgency.AHEAD, Urgency.LANGUAGE, Urgency.VOICE, Urgency.RECOGNISER)
        waiting = begun(budget, *(partial(work, urgency) for urgency in urgencies))
    for thread in waiting:
        thread.join()
    assert order == sorted(order)
