"""A tiny world for the cascade's laws: speech is a tone, its words are its length.

Every role really computes on the sound it is given, in no time and the same each run, so a test
can say exactly what must happen. The real models are tested elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Frame, Pcm, Reply, silence
from runtime.clock import ManualClock
from runtime.cores import CoreBudget
from runtime.engines.cascade import CascadeEngine
from runtime.engines.cascade_state import CascadeConfig, CascadeState
from runtime.engines.context import Message
from runtime.engines.draft import Crew, DraftMaker
from runtime.engines.engine import Context
from runtime.engines.roles import EAR_RATE_HZ, Float32, Roles
from runtime.engines.workers import InlineWorker
from runtime.models.llm import Sampling
from runtime.models.tts import Speech

FRAME_NS = 80_000_000


class Energy:
    """Voice activity: 1.0 where there is a tone."""

    def probability(self, chunk: Float32) -> float:
        return 1.0 if float(np.mean(chunk**2)) > 1e-4 else 0.0


@dataclass
class Words:
    """What the length recogniser found."""

    text: str


@dataclass
class LengthRecogniser:
    """Recognises one word for each 0.2 s of tone; `said` replaces the words, to test stop words."""

    said: str | None = None
    heard_s: list[float] = field(default_factory=list)

    def warm_up(self) -> None:
        return None

    def transcribe(self, pcm_16k: Float32) -> Words:
        loud_s = float(np.count_nonzero(np.abs(pcm_16k) > 0.02)) / EAR_RATE_HZ
        self.heard_s.append(loud_s)
        n_words = round(loud_s / 0.2)
        if self.said is not None and n_words:
            return Words(self.said)
        return Words(" ".join(["word"] * n_words) + ("." if n_words else ""))


@dataclass
class Sure:
    """An end-of-turn model that always says the same."""

    answer: float = 0.9

    def probability(self, pcm_16k: Float32) -> float:
        return self.answer


@dataclass
class CountingChat:
    """Answers with how many words it was asked, in two sentences; remembers what it was shown."""

    shown: list[tuple[str, ...]] = field(default_factory=list)
    whole_p: float = 0.9

    def start(self, *, seed: int, opening: Sequence[Message] = ()) -> object:
        return object()

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return sum(len(m["content"].split()) for m in messages)

    def prefill(self, state: Any, messages: Sequence[Message], *, open_turn: bool = False) -> int:
        return 0

    def completeness(self, state: Any, messages: Sequence[Message]) -> float:
        return self.whole_p

    def reply(
        self,
        state: Any,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        wanted: Callable[[], bool] = lambda: True,
    ) -> Iterator[str]:
        self.shown.append(tuple(m["content"] for m in messages))
        asked = len(messages[-1]["content"].split())
        for word in f"You said {asked} words. That is all of it.".split(" "):
            if not wanted():
                return
            yield word + " "

    def use_cores(self, state: Any, n_cores: int) -> None:
        assert n_cores >= 1

    def finish(self, state: Any) -> None:
        return None


class ToneVoice:
    """Says each word as 0.25 s of a low tone."""

    def speak(self, text: str, *, seed: int, speed: float = 1.0) -> Speech:
        return Speech(tone(0.25 * len(text.split()), 220.0, 0.2), text)


def tone(seconds: float, hz: float = 440.0, level: float = 0.3) -> Pcm:
    """A steady tone, float32, 24 kHz."""
    t = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return (level * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def hush(seconds: float) -> Pcm:
    """Silence, float32, 24 kHz."""
    return np.zeros(round(seconds * SAMPLE_RATE_HZ), np.float32)


@dataclass
class World:
    """An engine over the tiny roles, stepped by hand."""

    recogniser: LengthRecogniser = field(default_factory=LengthRecogniser)
    chat: CountingChat = field(default_factory=CountingChat)
    judge: Sure = field(default_factory=Sure)
    config: CascadeConfig = field(default_factory=CascadeConfig)
    clock: ManualClock = field(default_factory=ManualClock)
    key_down: bool = False
    hushed: bool = False

    def __post_init__(self) -> None:
        roles = Roles(
            Energy, self.recogniser, self.judge, self.chat, ToneVoice(), lambda text: text
        )
        crew = Crew(*(InlineWorker() for _ in range(4)))
        maker = DraftMaker(roles, crew, CoreBudget(1), self.clock.now_ns)
        self.engine = CascadeEngine(maker, self.config, lambda: self.key_down, lambda: self.hushed)
        self.state: CascadeState = self.engine.start(seed=0, context=Context("be brief"))
        self.replies: list[Reply] = []

    def hear(self, *parts: Pcm) -> list[Reply]:
        """Play sound to the engine, whole frames, the last one padded; returns its replies."""
        pcm = np.concatenate(parts)
        n_frames = -(-len(pcm) // FRAME_SAMPLES)
        pcm = np.concatenate([pcm, np.zeros(n_frames * FRAME_SAMPLES - len(pcm), np.float32)])
        return [self.step(pcm[i * FRAME_SAMPLES :][:FRAME_SAMPLES]) for i in range(n_frames)]

    def until(self, kind: str, *, most_s: float = 10.0) -> list[Reply]:
        """Silence until an event of this kind."""
        new: list[Reply] = []
        while len(new) < most_s / 0.08:
            new.append(self.step(silence()))
            if kind in events(new[-1:]):
                return new
        raise AssertionError(f"no {kind} within {most_s} s: {events(new)}")

    def step(self, pcm: Pcm) -> Reply:
        self.clock.advance_ns(FRAME_NS)
        frame = Frame(len(self.replies), self.clock.now_ns(), pcm.astype(np.float32))
        self.state, reply = self.engine.step(self.state, frame)
        self.replies.append(reply)
        return reply


def events(replies: Sequence[Reply]) -> list[str]:
    """The kinds of all events but timings, in order."""
    return [e.kind for r in replies for e in r.events if e.kind != "stage"]


def facts(replies: Sequence[Reply], kind: str) -> list[Mapping[str, object]]:
    """The facts of each event of a kind."""
    return [e.facts for r in replies for e in r.events if e.kind == kind]


def loud_s(replies: Sequence[Reply]) -> float:
    """Seconds of audible reply."""
    pcm = np.concatenate([r.pcm for r in replies])
    return float(np.count_nonzero(np.abs(pcm) > 0.01)) / SAMPLE_RATE_HZ
