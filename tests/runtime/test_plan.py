"""Plans: arithmetic that has to agree with itself and with what was measured."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from runtime.plan import HEADROOM, PRECISIONS, Machine, ModelSize, StepDown, live_plan, plan

MOSHI_7B = ModelSize(
    temporal_weights=6_615_000_000,
    depth_weights=666_000_000,
    table_bytes=530_000_000,
    cache_values=2 * 32 * 4096,
    context=3000,
)


def test_a_small_computer_is_told_to_use_the_cascade() -> None:
    made = plan(MOSHI_7B, Machine(bandwidth_gb_s=19.0, memory_bytes=24 * 10**9))
    assert made.choice is None
    assert "cascade" in made.reason
    quickest = min(option.step_ms for option in made.options)
    assert 250 < quickest < 500  # 4.9 GB a frame at 13 GB/s


def test_a_fast_accelerator_takes_the_most_precise() -> None:
    machine = Machine(19.0, 24 * 10**9, gpu_bandwidth_gb_s=1000.0, gpu_memory_bytes=24 * 10**9)
    made = plan(MOSHI_7B, machine)
    assert made.choice is not None
    assert (made.choice.precision, made.choice.placement) == ("float", "gpu")


@given(st.floats(1, 2000), st.floats(0, 2000), st.integers(1 << 28, 1 << 36), st.floats(0.2, 1.0))
def test_what_fits_fits(slow: float, fast: float, memory: int, share: float) -> None:
    machine = Machine(slow, memory, fast, memory, share)
    made = plan(MOSHI_7B, machine)
    for option in made.options:
        assert option.step_ms >= option.temporal_ms + option.depth_ms
        if option.fits:
            assert option.step_ms <= 80 * HEADROOM + 0.1
            assert option.memory_bytes <= memory
    if made.choice is not None:
        order = list(PRECISIONS)
        fitting = [order.index(option.precision) for option in made.options if option.fits]
        assert order.index(made.choice.precision) == min(fitting)


def test_more_bandwidth_is_never_slower() -> None:
    steps = [
        [option.step_ms for option in plan(MOSHI_7B, Machine(gb_s, 1 << 40)).options]
        for gb_s in (10.0, 20.0, 40.0)
    ]
    for slower, faster in itertools.pairwise(steps):
        assert all(a >= b for a, b in zip(slower, faster, strict=True))


def test_stepping_down_takes_many_late_frames_close_together() -> None:
    late, fine = 90_000_000, 60_000_000
    down = StepDown(n_late=5, n_window=20)
    assert not any(down.frame(late if i % 6 == 0 else fine) for i in range(200))
    assert [down.frame(late) for _ in range(5)].count(True) == 1
    assert not down.frame(late)


def test_a_loaded_model_is_changed_no_more_than_it_takes() -> None:
    ways = [
        (live.kv, live.overlap, live.fits)
        for live in (
            live_plan(50, 15, 10),
            live_plan(60, 15, 20),
            live_plan(75, 15, 10),
            live_plan(75, 15, 20),
            live_plan(90, 15, 20),
            live_plan(60, 15, 20, small_cache=False),
        )
    ]
    assert ways == [
        ("f16", False, True), ("q8_0", False, True), ("f16", True, True), ("q8_0", True, True),
        ("q8_0", True, False), ("f16", True, True),
    ]  # fmt: skip
    assert "NOT real time" in live_plan(200, 15, 20).reason
