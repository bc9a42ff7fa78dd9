"""Spoken questions for benches and tests, synthesised by the starter voice when they are needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.frame import SAMPLE_RATE_HZ, Pcm
from edge.wav import WavWriter
from runtime.models.tts import TAIL_MS, Voice

_SPEEDS = (0.9, 1.0, 1.1)
_LEAD_S = 0.5


@dataclass(frozen=True, slots=True)
class Question:
    """A question to be spoken. Parts are separated by pauses of pause_s inside the sentence.

    fact: a pattern that a right answer contains (a very small model is not always right).
    """

    name: str
    parts: tuple[str, ...]
    fact: str
    pause_s: float = 0.0

    @property
    def text(self) -> str:
        """What is asked, in one line."""
        return " ".join(self.parts)


QUESTIONS = (
    Question("france", ("What is the capital of France?",), r"paris"),
    Question("bees", ("What do bees make?",), r"honey"),
    Question("ice", ("What is frozen water called?",), r"ice"),
    Question("spider", ("How many legs does a spider have?",), r"eight|8"),
    Question("japan", ("What is the capital of Japan?",), r"tokyo"),
    Question("hot", ("What is the opposite of hot?",), r"cold"),
    Question("months", ("How many months are there in a year?",), r"twelve|12"),
    Question("planet", ("What is the largest planet in the solar system?",), r"jupiter"),
    Question("romeo", ("Who wrote Romeo and Juliet?",), r"shakespeare"),
    Question("hello", ("Hello, how are you today?",), r"well|fine|good|help"),
    Question("germany", ("Can you tell me", "what the capital of Germany is?"), r"berlin", 0.5),
    Question("sky", ("On a clear day,", "what color is the sky?"), r"blue", 0.6),
    Question(
        "week", ("I would like to know", "how many days there are in a week."), r"seven|7", 0.4
    ),
    Question("spain", ("Please tell me the", "capital of Spain."), r"madrid", 0.7),
    Question("milk", ("Which animal", "gives us milk?"), r"cow|goat|mammal", 0.5),
    Question("minutes", ("How many minutes are there in", "one hour?"), r"sixty|60", 0.6),
)


def speak(voice: Voice, question: Question, *, seed: int = 0) -> tuple[Pcm, float]:
    """The question as sound, float32 24 kHz with half a second of silence before it.

    It is spoken as one sentence, so that a pause does not come with the falling voice of an end;
    the pause is then cut in where one part ends. Returns the sound and where speech ends, in
    s: the last sample above -45 dBFS.
    """
    speed = _SPEEDS[sum(map(ord, question.name)) % len(_SPEEDS)]
    sound = voice.speak(question.text, seed=seed, speed=speed).pcm
    if len(question.parts) == 2:
        lengths = [len(voice.speak(p, seed=seed, speed=speed).pcm) for p in question.parts]
        at = _quietest(sound, len(sound) * lengths[0] // sum(lengths))
        pause = np.zeros(round(question.pause_s * SAMPLE_RATE_HZ), np.float32)
        sound = np.concatenate([_faded(sound[:at], end=True), pause, _faded(sound[at:], end=False)])
    lead = np.zeros(round(_LEAD_S * SAMPLE_RATE_HZ), np.float32)
    sound = np.concatenate([lead, sound])
    return sound, len(sound) / SAMPLE_RATE_HZ - TAIL_MS / 1_000


def _quietest(sound: Pcm, near: int) -> int:
    """The quietest 10 ms within 120 ms of a sample: most likely between two words."""
    block = SAMPLE_RATE_HZ // 100
    first = max(0, near - 12 * block)
    part = sound[first : near + 12 * block]
    energy = (part[: len(part) // block * block].reshape(-1, block) ** 2).sum(axis=1)
    return first + int(energy.argmin()) * block + block // 2


def _faded(sound: Pcm, *, end: bool) -> Pcm:
    """A copy whose cut end is smooth over 10 ms."""
    out = sound.copy()
    ramp = np.linspace(0, 1, SAMPLE_RATE_HZ // 100, dtype=np.float32)
    if end:
        out[-len(ramp) :] *= ramp[::-1]
    else:
        out[: len(ramp)] *= ramp
    return out


def write_questions(
    voice: Voice, folder: Path, questions: tuple[Question, ...] = QUESTIONS
) -> list[tuple[Question, Path, float]]:
    """Speak each question into folder/NAME.wav; returns question, file and end of speech (s)."""
    out = []
    for question in questions:
        path = folder / f"{question.name}.wav"
        sound, end_s = speak(voice, question)
        writer = WavWriter(path)
        writer.write(sound)
        writer.close()
        out.append((question, path, end_s))
    return out
