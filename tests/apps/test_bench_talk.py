"""What the bench keeps of a conversation stands where it happened, and its picture shows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from apps.bench.picture import draw
from apps.bench.quantiles import quantiles, shown
from apps.bench.talk import Recorder
from edge.frame import FRAME_NS, Event, Frame, Reply, silence
from runtime.trace import Span


def recorder() -> Recorder:
    """Ten frames; in the eighth, that the recogniser worked from 0.2 s to 0.4 s of the stream."""
    kept = Recorder()
    began = 5_000_000_000
    for index in range(10):
        events: tuple[Event, ...] = ()
        if index == 7:
            span = Span("asr", began + 200_000_000, began + 400_000_000)
            facts = {"name": span.stage, "began_ns": span.began_ns, "ended_ns": span.ended_ns}
            events = (Event("stage", facts), Event("user_ended", {"why": "silence"}))
        frame = Frame(index, began + (index + 1) * FRAME_NS, silence())
        kept.observe(frame, Reply(index, np.full(1920, 0.1, np.float32), "", events))
    return kept


def test_work_and_decisions_stand_where_they_were() -> None:
    found = recorder().recording()
    assert found.stages == ((pytest.approx(0.2), pytest.approx(0.4), "asr"),)
    assert found.events == ((pytest.approx(0.64), "user_ended", "silence"),)
    assert len(found.user) == len(found.reply) == 10 * 1920


def test_the_picture_has_a_row_for_the_work(tmp_path: Path) -> None:
    draw(recorder().recording(), tmp_path / "with.svg", title="One conversation")
    drawn = (tmp_path / "with.svg").read_text(encoding="utf-8")
    for name in ("recogniser", "end of turn?", "assistant", "ended"):
        assert f"<!-- {name} -->" in drawn


def test_where_nothing_was_measured_no_number_is_shown() -> None:
    assert shown(quantiles([488.0, 488.04, 725.0])) == "488 / 701"
    assert quantiles([]) == {}
    assert shown({}) == "-"
