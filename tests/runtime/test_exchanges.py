"""Turns of a duplex conversation: told from levels and words, for people."""

from __future__ import annotations

from edge.frame import Event
from runtime.engines.exchanges import Exchanges


def follow(pattern: str, words: dict[int, str] | None = None) -> list[tuple[int, Event]]:
    """One letter a frame: u the user, m the model, b both, a dot neither."""
    exchanges, found = Exchanges(), []
    for i, who in enumerate(pattern):
        events = exchanges.frame(
            i,
            user_quiet=who not in "ub",
            reply_quiet=who not in "mb",
            text=(words or {}).get(i, ""),
            step_ms=10.0,
        )
        found += [(i, event) for event in events]
    return found


def test_latency_is_from_the_users_last_frame_to_the_models_first() -> None:
    (start, started), (end, ended) = follow("uuuu...mmmm" + "." * 14, {6: " Hel", 8: "lo."})
    assert (start, started.kind, started.facts["latency_ms"]) == (
        7, "reply_started", {"total": 4 * 80 + 10.0},
    )  # fmt: skip
    assert (end, ended.kind, ended.facts["reply"]) == (10 + 13, "reply_ended", "Hello.")


def test_a_short_pause_does_not_end_a_reply_and_words_hold_it_open() -> None:
    assert [event.kind for _, event in follow("u.mm......mm" + "." * 13)] == [
        "reply_started",
        "reply_ended",
    ]
    events = follow("u.mm" + "." * 20, {10: "and"})
    assert events[-1][0] == 10 + 13


def test_nobody_is_timed_who_was_not_answered() -> None:
    """The model speaks first, or into the user's speech."""
    for pattern in ("..mm", "uubb"):
        (_, started), *_ = follow(pattern)
        assert started.facts["latency_ms"] == {}


def test_each_reply_has_its_own_words() -> None:
    pattern = ("uu.mm" + "." * 14) * 2
    events = follow(pattern, {3: "one", 22: "two"})
    said = [event.facts["reply"] for _, event in events if event.kind == "reply_ended"]
    assert said == ["one", "two"]
