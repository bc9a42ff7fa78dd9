"""Stepping down when the deadline is missed: first cheaper ways of the same engine, then another.

The engine on top keeps the conversation as long as it can be made cheaper. When nothing is left
and there is an engine below, that one is loaded while the first goes on, and takes over.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from edge.errors import EdgeError
from edge.frame import Event, Frame, Reply
from runtime.engines.engine import Context, Engine
from runtime.plan import StepDown

log = logging.getLogger(__name__)

S = TypeVar("S")


class Relievable(Engine[S], Protocol[S]):
    """An engine that can be made cheaper in the middle of a conversation."""

    def relieve(self, state: S) -> str | None:
        """Take the next cheaper way and say which in a few words; None where none is left."""


@dataclass(slots=True)
class LadderState:
    """A conversation and where it stands: still the first engine's, or the one's below it."""

    inner: Any
    seed: int
    context: Context
    watch: StepDown
    below: Engine[Any] | None = None
    opening: Future[Engine[Any]] | None = None
    exhausted: bool = False
    events: list[Event] = field(default_factory=list)


class Ladder:
    """An engine that steps down; the Engine contract.

    open_below: loads and warms the engine that takes over at the end, None for none; it is called
    once, on a thread of its own. watch: makes what says when the deadline is not being held.
    """

    def __init__(
        self,
        top: Relievable[Any],
        open_below: Callable[[], Engine[Any]] | None = None,
        *,
        watch: Callable[[], StepDown] = StepDown,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.top = top
        self._open_below, self._watch, self._now_ns = open_below, watch, now_ns
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="step down")

    def warm_up(self) -> None:
        """Warm the engine on top."""
        self.top.warm_up()

    def start(self, *, seed: int, context: Context) -> LadderState:
        """A conversation with the engine on top."""
        inner = self.top.start(seed=seed, context=context)
        return LadderState(inner, seed, context, self._watch())

    def step(self, state: LadderState, frame: Frame) -> tuple[LadderState, Reply]:
        """Step whichever engine it is; see whether it came in time."""
        engine = state.below or self.top
        began_ns = self._now_ns()
        state.inner, reply = engine.step(state.inner, frame)
        late = state.watch.frame(self._now_ns() - began_ns)
        if state.opening is not None and state.opening.done():
            self._take_over(state, state.opening)
        elif late and state.below is None and state.opening is None and not state.exhausted:
            self._step_down(state)
        if state.events:
            reply = replace(reply, events=(*reply.events, *state.events))
            state.events = []
        return state, reply

    def idle(self, state: LadderState) -> bool:
        """Whether the engine of the moment is."""
        return (state.below or self.top).idle(state.inner)

    def finish(self, state: LadderState) -> None:
        """End the conversation; an engine that was being loaded for it is let go."""
        (state.below or self.top).finish(state.inner)

    def close(self) -> None:
        """Wait for what is being loaded; nothing is loaded after it."""
        self._loader.shutdown(cancel_futures=True)

    def _step_down(self, state: LadderState) -> None:
        cheaper = self.top.relieve(state.inner)
        if cheaper is not None:
            state.events.append(Event("stepped_down", {"what": cheaper}))
        elif self._open_below is not None:
            state.opening = self._loader.submit(self._open_below)
            state.events.append(Event("stepped_down", {"what": "loading the next engine"}))
        else:
            state.exhausted = True
            state.events.append(
                Event("stepped_down", {"what": "nothing cheaper is left; frames come late"})
            )

    def _take_over(self, state: LadderState, opening: Future[Engine[Any]]) -> None:
        """The engine below goes on; it knows nothing of what was said so far."""
        state.opening = None
        try:
            below = opening.result()
        except EdgeError as error:
            state.exhausted = True
            state.events.append(Event("stepped_down", {"what": f"it cannot be loaded: {error}"}))
            return
        self.top.finish(state.inner)
        state.inner = below.start(seed=state.seed, context=state.context)
        state.below, state.watch = below, self._watch()
        state.events.append(
            Event("stepped_down", {"what": "the next engine has taken over, from the beginning"})
        )
