"""The events a cascade reports: when a reply began and what each stage added to the wait for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Event, Frame
from runtime.trace import Span

_STAGES = ("asr", "llm_first", "tts_first")


def reply_started(
    frame: Frame,
    user: str,
    *,
    user_end_ns: int,
    decided_ns: int,
    ready_ns: Mapping[str, int],
    first: int,
) -> Event:
    """The first audible sample of a reply, sample `first` of this frame's.

    user_end_ns: end of the user's speech; decided_ns: when the turn was called over; ready_ns: when
    each stage had what was said first. What was ready before the decision adds nothing.
    """
    heard_ns = frame.captured_ns + first * 1_000_000_000 // SAMPLE_RATE_HZ
    marks = [("end_of_turn", decided_ns)]
    marks += [(name, ready_ns.get(name, 0)) for name in _STAGES]
    latency, reached = {}, user_end_ns
    for name, at_ns in [*marks, ("output", heard_ns)]:
        latency[name] = round(max(0, at_ns - reached) / 1e6, 1)
        reached = max(reached, at_ns)
    latency["total"] = round((heard_ns - user_end_ns) / 1e6, 1)
    facts = {
        "user": user,
        "user_end_s": stream_s(frame, user_end_ns),
        "reply_start_s": stream_s(frame, heard_ns),
        "latency_ms": latency,
    }
    return Event("reply_started", facts)


def stage_events(spans: Iterable[Span]) -> list[Event]:
    """Finished work, for the trace."""
    return [
        Event("stage", {"name": span.stage, "began_ns": span.began_ns, "ended_ns": span.ended_ns})
        for span in spans
    ]


def stream_s(frame: Frame, at_ns: int) -> float:
    """Seconds since the conversation's sound began; frame n ends at (n + 1) * 80 ms."""
    end_s = (frame.index + 1) * FRAME_SAMPLES / SAMPLE_RATE_HZ
    return round(end_s - (frame.captured_ns - at_ns) / 1e9, 3)
