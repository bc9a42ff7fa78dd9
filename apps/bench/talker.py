"""A simulated user behind an AudioPort: asks, waits, interrupts, murmurs, at random but seeded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edge.frame import FRAME_MS, FRAME_NS, FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm, silence
from runtime.clock import Clock
from runtime.sound.port import PortCounters

_AUDIBLE = 0.003


@dataclass(frozen=True, slots=True)
class Interruption:
    """The user spoke over the assistant.

    began_frame: the onset. silent_after_ms: until the assistant was silent, None if it never was.
    """

    began_frame: int
    silent_after_ms: float | None


@dataclass(slots=True)
class RandomTalker:
    """Speaks sounds (float32, 24 kHz) in random order until n_frames have passed.

    interrupt_p: how often a reply is talked over, after a random part of it. gap_s: the shortest
    and longest silence before the next question. interruptions collects what happened.
    """

    sounds: Sequence[Pcm]
    clock: Clock
    n_frames: int
    seed: int = 0
    interrupt_p: float = 0.5
    gap_s: tuple[float, float] = (0.5, 2.0)
    interruptions: list[Interruption] = field(default_factory=list)
    n_asked: int = 0
    _random: np.random.Generator = field(init=False)
    _saying: Pcm = field(default_factory=silence)
    _said: int = FRAME_SAMPLES
    _index: int = 0
    _due_ns: int = 0
    _wait_frames: int = 10
    _interrupt_in: int | None = None
    _onset: int | None = None
    _audible: bool = False
    _tail: int = 0
    _last_audible_ms: float = 0.0

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)

    def open(self) -> None:
        self._due_ns = self.clock.now_ns()

    def read(self, *, engine_idle: bool) -> Pcm | None:
        if self._index >= self.n_frames:
            return None
        self._index += 1
        self._due_ns += FRAME_NS
        self.clock.sleep_until_ns(self._due_ns)
        if self._said >= len(self._saying):
            self._decide(engine_idle)
        return self._next_frame()

    def write(self, pcm: Pcm) -> None:
        audible = bool(np.max(np.abs(pcm)) > _AUDIBLE)
        if audible and not self._audible and self._random.random() < self.interrupt_p:
            self._interrupt_in = int(self._random.integers(8, 30))
        self._audible = audible
        if self._onset is not None:
            self._watch_silence(pcm, audible)

    def flush(self) -> int:
        return 0

    def delay_ms(self) -> float | None:
        return None

    def counters(self) -> PortCounters:
        return PortCounters()

    def close(self, *, completed: bool) -> None:
        self._saying = silence()

    def _decide(self, engine_idle: bool) -> None:
        """Nothing is being said by the user: ask, interrupt, or wait on."""
        if self._interrupt_in is not None and self._audible:
            self._interrupt_in -= 1
            if self._interrupt_in <= 0:
                self._interrupt_in, self._onset, self._tail = None, self._index, 0
                self._last_audible_ms = 0.0
                self._speak()
        elif engine_idle:
            self._interrupt_in = None
            self._wait_frames -= 1
            if self._wait_frames <= 0:
                self._speak()

    def _speak(self) -> None:
        self._saying = self.sounds[int(self._random.integers(len(self.sounds)))]
        self._said = 0
        self.n_asked += 1
        low, high = self.gap_s
        self._wait_frames = int(self._random.uniform(low, high) * 1000 / FRAME_MS)

    def _next_frame(self) -> Pcm:
        out = silence()
        part = self._saying[self._said : self._said + FRAME_SAMPLES]
        out[: len(part)] = part
        self._said += FRAME_SAMPLES
        return out

    def _watch_silence(self, pcm: Pcm, audible: bool) -> None:
        """After an onset: when was the last audible sample of the assistant?"""
        assert self._onset is not None
        frames = self._index - self._onset + 1
        if audible:
            self._tail = 0
            last = int(np.flatnonzero(np.abs(pcm) > _AUDIBLE)[-1])
            if frames > 25:
                self.interruptions.append(Interruption(self._onset, None))
                self._onset = None
                return
            self._last_audible_ms = frames * FRAME_MS + last / SAMPLE_RATE_HZ * 1000
            return
        self._tail += 1
        if self._tail >= 2:
            self.interruptions.append(Interruption(self._onset, self._last_audible_ms))
            self._onset = None
