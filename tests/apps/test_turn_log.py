"""The record of a conversation's turns, and of why each ended."""

from __future__ import annotations

from apps.session import TurnLog
from edge.frame import Event, Frame, Reply, silence


def test_a_reason_without_a_time_gets_that_of_its_frame() -> None:
    log = TurnLog()
    events = (Event("resumed", {"why": "its own words"}), Event("held", {"why": "x", "at_s": 1.5}))
    log.observe(Frame(25, 0, silence()), Reply(25, silence(), "", events))
    assert [line.split() for line in log.explained] == [
        ["2.0", "s", "resumed", "its", "own", "words"],
        ["1.5", "s", "held", "x"],
    ]
