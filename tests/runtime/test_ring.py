from __future__ import annotations

import threading
from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.sound.late import catch_up, recentre
from runtime.sound.ring import SampleRing

CAPACITY = 10
steps = st.lists(
    st.tuples(st.sampled_from(["push", "pop", "drop", "void"]), st.integers(0, 12)), max_size=60
)


@given(steps)
def test_it_is_a_bounded_queue_whatever_the_order_of_calls(calls: list[tuple[str, int]]) -> None:
    ring, model = SampleRing(CAPACITY), deque[float]()
    n_made = n_void = n_over = n_under = 0
    for call, n in calls:
        if call == "push":
            fits = len(model) + n_void + n <= CAPACITY
            samples = np.arange(n_made, n_made + n, dtype=np.float32)
            assert ring.push(samples) == fits
            model.extend(samples.tolist() if fits else [])
            n_made, n_over = n_made + n, n_over + (not fits)
        elif call == "pop":
            out = np.full(n, -1.0, np.float32)
            wanted = [model.popleft() for _ in range(min(n, len(model)))]
            assert ring.pop_into(out) == len(wanted)
            assert out.tolist() == wanted + [0.0] * (n - len(wanted))
            n_void, n_under = 0, n_under + (len(wanted) < n)
        elif call == "drop":
            assert ring.drop(n) == min(n, len(model))
            model = deque(list(model)[n:])
            n_void = 0
        else:
            n_gone = min(n, len(model))
            assert ring.void_oldest(n) == n_gone
            model = deque(list(model)[n:])
            n_void += n_gone
        assert ring.n_pending == len(model)
    assert (ring.n_overruns, ring.n_underruns) == (n_over, n_under)


def test_two_threads_lose_nothing_and_mix_nothing_up() -> None:
    ring, n_total, n_block = SampleRing(997), 20_000, 48
    samples = np.arange(n_total, dtype=np.float32)
    got: list[np.ndarray] = []

    def consume() -> None:
        n_got = 0
        while n_got < n_total:
            out = np.empty(31, np.float32)
            n = ring.pop_into(out)
            got.append(out[:n])
            n_got += n

    consumer = threading.Thread(target=consume)
    consumer.start()
    for begin in range(0, n_total, n_block):
        while not ring.push(samples[begin : begin + n_block]):
            pass
    consumer.join(10)
    assert np.array_equal(np.concatenate(got), samples)


def test_clear_leaves_nothing_and_a_ring_needs_room() -> None:
    ring = SampleRing(4)
    ring.push(np.ones(3, np.float32))
    assert ring.clear() == 3
    assert ring.n_pending == 0
    with pytest.raises(ValueError, match="capacity"):
        SampleRing(0)


@given(st.integers(0, 1_000), st.integers(0, 20))
def test_the_late_policy_keeps_the_newest_frames_and_no_more(n: int, max_behind: int) -> None:
    n_drop = catch_up(n, max_behind)
    assert 0 <= n_drop <= n
    assert n - n_drop == min(n, max_behind)


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 2_000))
def test_recentre_lands_on_the_cushion_or_leaves_it(n: int, n_cushion: int, slack: int) -> None:
    n_after = n + recentre(n, n_cushion, n_tolerance=slack)
    assert n_after in {n, n_cushion}
    assert abs(n_after - n_cushion) <= slack
