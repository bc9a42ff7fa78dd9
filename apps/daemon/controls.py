"""The switches between the control socket and the frame loop.

Every switch is one attribute that one side writes and the other reads: no lock is ever held that
the frame loop could wait for.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass(slots=True)
class Controls:
    """What was asked for. n_hushed: how often "stop" was; the loop compares it with its own count.

    again: the running conversation is to end and another to begin, with settings read anew.
    purge: what was kept is to be removed between the two.
    """

    muted: bool = False
    talk_down: bool = False
    n_hushed: int = 0
    profile: str = ""
    settings: dict[str, object] = field(default_factory=dict)
    again: threading.Event = field(default_factory=threading.Event)
    purge: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def hears(self) -> bool:
        """Whether the microphone is open: not muted, or the talk key is held down."""
        return self.talk_down or not self.muted

    def interrupted(self) -> bool:
        """Whether the conversation under way is to end."""
        return self.over.is_set() or self.again.is_set()


class Hush:
    """One reader of Controls.n_hushed: whether "stop" was asked for since it last looked."""

    def __init__(self, controls: Controls) -> None:
        self._controls, self._seen = controls, controls.n_hushed

    def __call__(self) -> bool:
        """True once for any number of "stop" since the last call."""
        n_hushed = self._controls.n_hushed
        asked, self._seen = n_hushed != self._seen, n_hushed
        return asked
