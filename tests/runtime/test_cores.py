"""Cores are never given twice, and the most urgent waiter goes first."""

from __future__ import annotations

import threading

import pytest

from runtime.cores import CoreBudget, Urgency, available_cores


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


def test_the_most_urgent_waiter_is_served_first() -> None:
    budget, order, waiting = CoreBudget(1), [], []

    def work(urgency: Urgency) -> None:
        with budget.core(urgency):
            order.append(urgency)

    with budget.core(Urgency.AHEAD):
        for urgency in (Urgency.AHEAD, Urgency.LANGUAGE, Urgency.VOICE, Urgency.RECOGNISER):
            thread = threading.Thread(target=work, args=(urgency,))
            thread.start()
            waiting.append(thread)
        while len(budget._waiting) < 4:
            pass
    for thread in waiting:
        thread.join()
    assert order == sorted(order)
