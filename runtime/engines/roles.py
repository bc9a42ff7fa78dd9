"""The models a cascade needs, one protocol a role, so that any recogniser or voice fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.models.llm import Sampling
from runtime.models.tts import Speech

Float32 = NDArray[np.float32]
Messages = Sequence[Mapping[str, str]]

EAR_RATE_HZ = 16_000
CHUNK_SAMPLES = 512  # 32 ms at 16 kHz, what the voice activity model takes


class VoiceActivity(Protocol):
    """One conversation's voice activity detector; its state lives inside."""

    def probability(self, chunk: Float32) -> float:
        """Speech probability 0..1 of float32 (512,), 16 kHz."""


class TranscriptLike(Protocol):
    """What a recogniser gives back."""

    @property
    def text(self) -> str:
        """The words, "" where there were none."""


class Recogniser(Protocol):
    """Speech to text, no state between calls."""

    def warm_up(self) -> None:
        """Run once, so that the first call costs what the others do."""

    def transcribe(self, pcm_16k: Float32) -> TranscriptLike:
        """Words in float32 (n,), 16 kHz."""


class EndOfTurn(Protocol):
    """Whether a pause is the end of what somebody wanted to say, by its sound."""

    def probability(self, pcm_16k: Float32) -> float:
        """0 (goes on) .. 1 (finished) for float32 (n,), 16 kHz, with the pause at its end."""


class Chat(Protocol):
    """A language model with one cache a conversation (the state is the library's handle)."""

    def start(self, *, seed: int, opening: Messages = ...) -> Any: ...

    def count_tokens(self, messages: Messages) -> int: ...

    def prefill(self, state: Any, messages: Messages, *, open_turn: bool = False) -> int: ...

    def completeness(self, state: Any, messages: Messages) -> float: ...

    def reply(
        self,
        state: Any,
        messages: Messages,
        sampling: Sampling,
        *,
        wanted: Callable[[], bool] = ...,
    ) -> Iterator[str]: ...

    def use_cores(self, state: Any, n_cores: int) -> None:
        """Compute with so many from the next call on; 1 at the start."""

    def finish(self, state: Any) -> None: ...


class Speaker(Protocol):
    """Text to speech, no state between clauses."""

    def speak(self, text: str, *, seed: int, speed: float = 1.0) -> Speech: ...


@dataclass(frozen=True, slots=True)
class Roles:
    """The loaded models of a cascade. voice_activity makes a detector for each conversation."""

    voice_activity: Callable[[], VoiceActivity]
    recogniser: Recogniser
    end_of_turn: EndOfTurn | None
    chat: Chat
    speaker: Speaker
    speakable: Callable[[str], str]
