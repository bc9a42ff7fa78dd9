"""The board: what is going on, for `status` and for those who watch. Fed by the frame loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from apps.daemon.controls import Controls
from apps.daemon.gate import Levels
from edge.frame import Event, Frame, Reply
from runtime.sound.port import PortCounters
from runtime.trace import Histogram, Trace, rss_mb

State = Literal["loading", "idle", "listening", "thinking", "speaking", "muted", "error"]
Tell = Callable[[str, Mapping[str, Any]], None]

_LEVEL_EVERY_FRAMES = 2
_AFTER: Mapping[str, State] = {
    "woken": "listening",
    "asleep": "idle",
    "user_started": "listening",
    "user_ended": "thinking",
    "reply_started": "speaking",
    "reply_resumed": "speaking",
    "reply_ended": "idle",
    "nothing_said": "idle",
    "unsaid": "idle",
    "stopped": "idle",
    "user_dropped": "idle",
    "own_words": "idle",
}


@dataclass(slots=True)
class Board:
    """One daemon's present. tell: hands an event to those who watch; must not block."""

    controls: Controls
    tell: Tell = lambda _kind, _facts: None
    phase: State = "loading"
    error: str = ""
    engine: str = ""
    ready_s: float = 0.0
    trace: Trace = field(default_factory=Trace)
    levels: Levels = field(default_factory=Levels)
    total: Histogram = field(default_factory=Histogram)
    last: Mapping[str, float] = field(default_factory=dict)
    n_answers: int = 0
    n_interrupted: int = 0
    counters: Callable[[], PortCounters] = PortCounters
    clarity: Callable[[], Mapping[str, Any]] = dict
    levels_wanted: bool = False
    _shown: str = ""

    @property
    def state(self) -> State:
        """What an icon should show."""
        quiet = self.phase in ("idle", "listening")
        return "muted" if quiet and not self.controls.hears() else self.phase

    def enter(self, phase: State, error: str = "") -> None:
        """The daemon itself changes: loading, ready, failed."""
        self.phase, self.error = phase, error
        self.show()

    def trouble(self, error: str) -> None:
        """What does not work at the moment while the conversation goes on; "" when it does."""
        self.error = error
        self.show()

    def show(self) -> None:
        """Tell those who watch, if anything they see has changed."""
        now = f"{self.state} {self.controls.muted} {self.controls.talk_down} {self.error}"
        if now != self._shown:
            self._shown = now
            facts = {"state": self.state, "muted": self.controls.muted, "error": self.error}
            self.tell("state", {**facts, "talk": self.controls.talk_down})

    def observe(self, frame: Frame, reply: Reply) -> None:
        """Take one frame; an Observer for the loop."""
        for event in reply.events:
            if event.kind != "stage":
                self._take(event)
        if reply.text:
            self.tell("caption", {"who": "assistant", "text": reply.text})
        self.show()
        if self.levels_wanted and frame.index % _LEVEL_EVERY_FRAMES == 0:
            levels = self.levels
            facts = {"microphone_db": levels.microphone_db, "speaker_db": levels.speaker_db}
            self.tell("levels", facts)

    def _take(self, event: Event) -> None:
        self.phase = _AFTER.get(event.kind, self.phase)
        if event.kind == "reply_started":
            latency = event.facts.get("latency_ms")
            if isinstance(latency, dict):
                self.last = latency
                self.total.add(int(max(0.0, latency["total"]) * 1e6))
            self.n_answers += 1
            self.tell("user", {"text": event.facts.get("user", ""), "latency_ms": self.last})
        elif event.kind == "reply_ended":
            interrupted = bool(event.facts.get("interrupted"))
            self.n_interrupted += interrupted
            facts = {"text": event.facts.get("reply", ""), "interrupted": interrupted}
            self.tell("reply", facts)

    def panel(self) -> dict[str, Any]:
        """The latency panel: milliseconds, counts and MiB."""
        counters = self.counters()
        return {
            "answers": self.n_answers,
            "interrupted": self.n_interrupted,
            "answer_ms": self.total.summary(),
            "last_answer_ms": dict(self.last),
            "frames": {
                "count": self.trace.n_frames,
                "missed": self.trace.n_missed,
                "step_ms": self.trace.step.summary(),
            },
            "queues": {
                "in": counters.n_pending_in,
                "out": counters.n_pending_out,
                "dropped_in": counters.n_dropped_in,
                "dropped_out": counters.n_dropped_out,
                "underruns": counters.n_underruns,
                "reopened": counters.n_reopened,
            },
            **self.clarity(),
            "rss_mb": round(rss_mb(), 1),
        }

    def status(self) -> dict[str, Any]:
        """What `status` answers with, less what the daemon as a whole adds."""
        levels = self.levels
        return {
            "state": self.state,
            "error": self.error,
            "muted": self.controls.muted,
            "talk": self.controls.talk_down,
            "profile": self.controls.profile,
            "engine": self.engine,
            "ready_s": round(self.ready_s, 2),
            "levels": {
                "microphone_db": levels.microphone_db,
                "speaker_db": levels.speaker_db,
            },
            "panel": self.panel(),
        }
