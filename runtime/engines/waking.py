"""A wake word in front of any engine: until it is heard, the engine hears silence.

It is awake from the word on, while anything is heard, thought about or said, and for a while
after that: an answer may be followed by another question without the word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from edge.frame import Event, Frame, Reply, silence
from runtime.engines.ear import Ratio32
from runtime.engines.engine import Context, Engine
from runtime.models.wake import WakeModel, WakeState

S = TypeVar("S")

_AUDIBLE = 1e-3


@dataclass(slots=True)
class WakingState(Generic[S]):
    """The engine's own state, and whether it is awake: until frame awake_until, -1 asleep."""

    inner: S
    ear: Ratio32 = field(default_factory=Ratio32)
    listening: WakeState = field(default_factory=WakeState)
    awake_until: int = -1
    n_woken: int = 0


@dataclass(frozen=True, slots=True)
class Waking(Generic[S]):
    """Engine that sleeps until its word is said.

    threshold: score from which the word counts as said. listen_frames: how long it is awake when
    nothing happens. talk_key: held down now? That wakes it, too.
    """

    inner: Engine[S]
    model: WakeModel
    threshold: float
    listen_frames: int
    talk_key: Callable[[], bool] = lambda: False

    def warm_up(self) -> None:
        self.inner.warm_up()

    def start(self, *, seed: int, context: Context) -> WakingState[S]:
        return WakingState(self.inner.start(seed=seed, context=context))

    def idle(self, state: WakingState[S]) -> bool:
        return self.inner.idle(state.inner)

    def finish(self, state: WakingState[S]) -> None:
        self.inner.finish(state.inner)

    def step(self, state: WakingState[S], frame: Frame) -> tuple[WakingState[S], Reply]:
        was_awake = frame.index <= state.awake_until
        events = () if was_awake else self._listen(state, frame)
        if self.talk_key():
            state.awake_until = frame.index + self.listen_frames
        awake = frame.index <= state.awake_until
        heard = frame if awake else Frame(frame.index, frame.captured_ns, silence())
        state.inner, reply = self.inner.step(state.inner, heard)
        if awake and self._busy(state, reply):
            state.awake_until = frame.index + self.listen_frames
        elif frame.index == state.awake_until:
            events = (*events, Event("asleep", {"why": "nothing was said"}))
            state.listening = WakeState()
        if not events:
            return state, reply
        return state, Reply(reply.index, reply.pcm, reply.text, (*events, *reply.events))

    def _listen(self, state: WakingState[S], frame: Frame) -> tuple[Event, ...]:
        state.listening, score = self.model.step(state.listening, state.ear.push(frame.pcm))
        if score < self.threshold:
            return ()
        state.awake_until = frame.index + self.listen_frames
        state.n_woken += 1
        why = f"the wake word, {score:.2f} of {self.threshold:g}"
        return (Event("woken", {"score": round(score, 3), "why": why}),)

    def _busy(self, state: WakingState[S], reply: Reply) -> bool:
        return not self.inner.idle(state.inner) or bool(np.abs(reply.pcm).max() > _AUDIBLE)
