"""Bench of the wake word: how often synthetic voices wake it, and how often other speech does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apps.bench.questions import QUESTIONS
from edge.frame import FRAME_MS, SAMPLE_RATE_HZ
from edge.resample import Resampler
from runtime.engines.roles import EAR_RATE_HZ
from runtime.models.tts import Voice
from runtime.models.wake import STEP_SAMPLES, WakeModel, WakeState

Float32 = NDArray[np.float32]

_LEAD_S, _TAIL_S = 1.6, 0.8
_SPEEDS = (0.9, 1.0, 1.1)
_SNR_DB = (None, 20.0, 10.0)  # of white noise
# How the phrase is said, and what sounds like it and is not it.
_CALLS = ("{0}.", "{0}!", "{0}, what is the capital of France?", "{0}, stop.")
NEAR = (
    *("My computer is broken again.", "They bought a new computer for the assistant.", "Hey you!"),
    *("Hey, come here.", "I need an assistant.", "Hey, can you hear me?", "Computers are quick."),
    *("He commutes every day.", "The assistant manager is away.", "Hello, is anybody there?"),
)


@dataclass(frozen=True, slots=True)
class Said:
    """One utterance judged. score: the highest. after_ms: from the phrase's end to the waking."""

    text: str
    voice: str
    snr_db: float | None
    score: float
    after_ms: float | None


def run_wake(
    model: WakeModel, voices: Mapping[str, Voice], phrase: str, *, threshold: float, seed: int = 0
) -> dict[str, Any]:
    """Say the phrase and other things in every voice, speed and noise; misses and false wakings."""
    calls = [form.format(phrase.capitalize()) for form in _CALLS]
    others = [*NEAR, *(question.text for question in QUESTIONS)]
    asked = list(_say_all(model, voices, calls, phrase, threshold, seed))
    other = list(_say_all(model, voices, others, "", threshold, seed))
    missed = [each for each in asked if each.score < threshold]
    false = [each for each in other if each.score >= threshold]
    delays = [each.after_ms for each in asked if each.after_ms is not None]
    seconds = sum(_LEAD_S + _TAIL_S + 2 for _ in other)
    return {
        "phrase": phrase,
        "threshold": threshold,
        "voices": list(voices),
        "said": len(asked),
        "missed": len(missed),
        "missed_by_voice": dict(Counter(each.voice for each in missed)),
        "missed_by_snr_db": {str(snr): sum(m.snr_db == snr for m in missed) for snr in _SNR_DB},
        "other": len(other),
        "false": len(false),
        "false_texts": sorted({each.text for each in false}),
        "other_minutes": round(seconds / 60, 1),
        "after_ms_p50": round(float(np.median(delays)), 0) if delays else None,
        "roc": {
            str(at): {
                "missed": sum(each.score < at for each in asked),
                "false": sum(each.score >= at for each in other),
            }
            for at in (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
        },
    }


def _say_all(
    model: WakeModel,
    voices: Mapping[str, Voice],
    texts: Sequence[str],
    phrase: str,
    threshold: float,
    seed: int,
) -> Iterator[Said]:
    random = np.random.default_rng(seed)
    for name, voice in voices.items():
        ends_s = len(voice.speak(f"{phrase}.", seed=seed).pcm) / SAMPLE_RATE_HZ if phrase else 0.0
        for text in texts:
            for speed, snr_db in zip(_SPEEDS, _SNR_DB, strict=True):
                pcm = voice.speak(text, seed=seed, speed=speed).pcm
                score, at_s = hear(model, _noisy(pcm, snr_db, random), threshold)
                after = None if at_s is None or not phrase else at_s - ends_s / speed
                after_ms = None if after is None else after * 1000
                yield Said(text, name, snr_db, round(score, 3), after_ms)


def hear(model: WakeModel, pcm: Float32, threshold: float) -> tuple[float, float | None]:
    """The highest score over a sound, float32 (n,) at 24 kHz, with silence around it, and when it
    woke, in seconds from the sound's beginning; None if it did not.
    """
    lead, tail = int(_LEAD_S * SAMPLE_RATE_HZ), int(_TAIL_S * SAMPLE_RATE_HZ)
    sound = np.concatenate([np.zeros(lead, np.float32), pcm, np.zeros(tail, np.float32)])
    ear = Resampler(SAMPLE_RATE_HZ, EAR_RATE_HZ).push(sound, last=True)
    state, best, woken_s = WakeState(), 0.0, None
    for number in range(len(ear) // STEP_SAMPLES):
        part = ear[number * STEP_SAMPLES : (number + 1) * STEP_SAMPLES]
        state, score = model.step(state, part)
        best = max(best, score)
        if score >= threshold and woken_s is None:
            woken_s = (number + 1) * FRAME_MS / 1000 - _LEAD_S
    return best, woken_s


def _noisy(pcm: Float32, snr_db: float | None, random: np.random.Generator) -> Float32:
    if snr_db is None:
        return pcm
    level = float(np.sqrt(np.mean(pcm**2))) * 10 ** (-snr_db / 20)
    noisy: Float32 = (pcm + random.normal(0, level, len(pcm))).astype(np.float32)
    return noisy
