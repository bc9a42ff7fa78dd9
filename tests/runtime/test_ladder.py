"""Stepping down: cheaper ways first, then the engine below; always said, never in silence."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest

from edge.errors import ModelMissingError
from edge.frame import Frame, Reply, silence
from runtime.engines.engine import Context
from runtime.engines.ladder import Ladder, LadderState
from runtime.plan import StepDown

FRAME_NS = 80_000_000


@dataclass
class Counted:
    """An engine whose step takes as long as it is told to; states are lists of frame indices."""

    name: str
    clock_ns: list[int]
    step_ns: int
    cheaper: list[tuple[str, int]] = field(default_factory=list)
    finished: int = 0

    def warm_up(self) -> None:
        self.cheaper = list(self.cheaper)

    def start(self, *, seed: int, context: Context) -> list[int]:
        return []

    def step(self, state: list[int], frame: Frame) -> tuple[list[int], Reply]:
        self.clock_ns[0] += self.step_ns
        state.append(frame.index)
        return state, Reply(frame.index, silence(), self.name)

    def idle(self, state: list[int]) -> bool:
        return False

    def finish(self, state: list[int]) -> None:
        self.finished += 1

    def relieve(self, state: list[int]) -> str | None:
        if not self.cheaper:
            return None
        what, self.step_ns = self.cheaper.pop(0)
        return what


def run(ladder: Ladder, n_frames: int, state: LadderState | None = None) -> list[str]:
    """Who answered each frame, and what was said about it."""
    state = state or ladder.start(seed=0, context=Context())
    told = []
    for i in range(n_frames):
        state, reply = ladder.step(state, Frame(i, 0, silence()))
        said = [str(e.facts["what"]) for e in reply.events if e.kind == "stepped_down"]
        told.append(" ".join([reply.text, *said]))
    ladder.finish(state)
    return told


def make(top: Counted, below: object = None) -> Ladder:
    clock = top.clock_ns
    return Ladder(
        top,
        below,  # type: ignore[arg-type]
        watch=lambda: StepDown(n_late=3, n_window=5),
        now_ns=lambda: clock[0],
    )


def test_an_engine_in_time_is_left_alone() -> None:
    top = Counted("top", [0], FRAME_NS - 1)
    assert run(make(top), 50) == ["top"] * 50
    assert top.finished == 1


def test_cheaper_ways_come_one_after_the_other_until_it_is_in_time() -> None:
    top = Counted("top", [0], 2 * FRAME_NS, [("a", FRAME_NS + 9), ("b", FRAME_NS - 9), ("c", 0)])
    assert run(make(top), 12) == ["top", "top", "top a", "top", "top", "top b", *["top"] * 6]


def test_where_nothing_is_left_it_says_so_once() -> None:
    top = Counted("top", [0], 2 * FRAME_NS)
    told = run(make(top), 30)
    assert [said for said in told if said != "top"] == [
        "top nothing cheaper is left; frames come late"
    ]


def test_the_engine_below_takes_over_when_it_is_loaded() -> None:
    clock = [0]
    top, below = Counted("top", clock, 2 * FRAME_NS), Counted("below", clock, 1)
    ladder = make(top, lambda: below)
    state = ladder.start(seed=0, context=Context())
    for i in range(3):
        state, reply = ladder.step(state, Frame(i, 0, silence()))
    assert reply.events[-1].facts["what"] == "loading the next engine"
    assert state.opening is not None
    state.opening.result(timeout=5)
    state, reply = ladder.step(state, Frame(3, 0, silence()))
    assert "taken over" in str(reply.events[-1].facts["what"])
    assert top.finished == 1
    assert run(ladder, 10, state) == ["below"] * 10
    assert below.finished == 1
    ladder.close()


def test_hanging_up_while_it_is_loaded_lets_go_of_both() -> None:
    loaded = threading.Event()
    clock = [0]
    top, below = Counted("top", clock, 2 * FRAME_NS), Counted("below", clock, 1)

    def open_below() -> Counted:
        assert loaded.wait(5)
        return below

    ladder = make(top, open_below)
    told = run(ladder, 5)
    assert told[2].endswith("loading the next engine")
    loaded.set()
    ladder.close()
    assert (top.finished, below.finished) == (1, 0)


@pytest.mark.parametrize("n_frames", [5])
def test_a_missing_engine_below_leaves_the_top_one_talking(n_frames: int) -> None:
    def open_below() -> Counted:
        raise ModelMissingError("whisper is not here; run `edge models fetch`")

    top = Counted("top", [0], 2 * FRAME_NS)
    ladder = make(top, open_below)
    state = ladder.start(seed=0, context=Context())
    for i in range(3):
        state, _ = ladder.step(state, Frame(i, 0, silence()))
    assert state.opening is not None
    assert state.opening.exception(timeout=5) is not None
    state, reply = ladder.step(state, Frame(3, 0, silence()))
    assert "edge models fetch" in str(reply.events[-1].facts["what"])
    assert run(ladder, n_frames, state) == ["top"] * n_frames
    ladder.close()
