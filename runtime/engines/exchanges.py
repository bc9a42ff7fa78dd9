"""Who speaks when in a duplex conversation, told from levels and captions: turns for people.

A duplex model has no turns of its own. Those that are told here are for the transcript, the
latency line and the history; nothing the model does depends on them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge.frame import FRAME_MS, Event, Pcm

# Below this level a frame of speech is room noise or less.
_QUIET_RMS = 10 ** (-50 / 20)
# A reply is over after so many frames without sound and without a word: one second.
_ENDED_FRAMES = 13
# Talked over for a quarter of a second at its end, and it was not finished of its own accord.
_OVER_FRAMES = 3


def is_quiet(pcm: Pcm) -> bool:
    """Whether nobody speaks in a frame."""
    return float(np.sqrt(np.mean(np.square(pcm)))) < _QUIET_RMS


@dataclass(slots=True)
class Exchanges:
    """Follows one conversation frame by frame.

    last_user: the last frame in which the user was heard since the reply before, -1 for none.
    n_over: of the reply's last second of sound, the frames that the user talked over.
    """

    last_user: int = -1
    replying: bool = False
    n_still: int = 0
    n_over: int = 0
    said: str = ""

    def frame(
        self,
        index: int,
        *,
        user_quiet: bool,
        reply_quiet: bool,
        text: str,
        step_ms: float,
        talked_over: bool = False,
    ) -> list[Event]:
        """Take one frame; the events it makes. step_ms: how long the engine took for it.

        talked_over: there is the user's voice in it.
        """
        self.said += text
        if not reply_quiet:
            self.n_over = (
                min(self.n_over + 1, _ENDED_FRAMES) if talked_over else max(0, self.n_over - 1)
            )
        self.n_still = 0 if text or not reply_quiet else self.n_still + 1
        events = []
        if not self.replying and not reply_quiet:
            self.replying = True
            events.append(Event("reply_started", self._started(index, user_quiet, step_ms)))
        elif self.replying and self.n_still >= _ENDED_FRAMES:
            self.replying = False
            interrupted = self.n_over >= _OVER_FRAMES
            facts = {
                "reply": self.said.strip(),
                "interrupted": interrupted,
                "why": "it was talked over"
                if interrupted
                else "a second without a sound or a word",
            }
            events.append(Event("reply_ended", facts))
            self.said, self.last_user, self.n_over = "", -1, 0
        if not user_quiet:
            self.last_user = index
        return events

    def _started(self, index: int, user_quiet: bool, step_ms: float) -> dict[str, object]:
        """From the end of the last frame the user was heard in to the first audible sample."""
        facts: dict[str, object] = {"user": "", "latency_ms": {}, "why": "the model speaks"}
        if user_quiet and self.last_user >= 0:
            total = (index - self.last_user) * FRAME_MS + step_ms
            facts["latency_ms"] = {"total": round(total, 1)}
        return facts
