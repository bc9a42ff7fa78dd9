"""The Engine contract: what the loop asks of every architecture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from edge.frame import Frame, Reply

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Example:
    """One exchange that shows a language model the manner of answering."""

    user: str
    reply: str


@dataclass(frozen=True, slots=True)
class Context:
    """What a conversation starts from.

    prompt: who the assistant is and how it speaks. examples: exchanges shown before the first
    turn. voice: a voice name or file, "" for the engine's own.
    """

    prompt: str = ""
    examples: tuple[Example, ...] = ()
    voice: str = ""


class Engine(Protocol[S]):
    """Owns weights, never a conversation. A state passed in is spent: its buffers may be reused."""

    def warm_up(self) -> None:
        """Run everything once, so that the first frame costs what the thousandth does."""

    def start(self, *, seed: int, context: Context) -> S:
        """A new conversation; with equal seed, context and frames the replies are equal."""

    def step(self, state: S, frame: Frame) -> tuple[S, Reply]:
        """Take 80 ms of microphone, give 80 ms of speaker, within 80 ms; slow parts are polled."""

    def idle(self, state: S) -> bool:
        """Nothing is being heard, thought about or said."""

    def finish(self, state: S) -> None:
        """End a conversation and free what its state holds in libraries."""
