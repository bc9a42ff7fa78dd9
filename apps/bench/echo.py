"""Bench of echo: the assistant's voice comes back from a made room; is it taken for a talker?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from apps.bench.background import resampled
from edge.config import AudioConfig
from edge.frame import FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm
from runtime.clock import FastClock
from runtime.engines import turns
from runtime.engines.ear import Ear
from runtime.engines.turns import Decision, Heard, TurnPolicy, TurnState
from runtime.models.tts import Voice
from runtime.models.vad import Vad
from runtime.sound.cancel.trial import SPEECH_P, Setting, acceptance, heard_at
from runtime.sound.clear import ClearPort
from runtime.sound.echo import EchoCanceller
from runtime.sound.lines import Room
from runtime.sound.null import NullPort

MOST_ALONE_PERCENT = 2.0

_SAID = (
    "The sky is blue because the air scatters short waves of light more than long ones.",
    "A week has seven days, and a year has twelve months.",
    "Paris is the capital of France, and Berlin is that of Germany.",
    "Bees make honey from the nectar of flowers, and they store it for the winter.",
    "Water freezes at zero degrees and boils at one hundred, at least at the sea.",
    "Jupiter is the largest planet in the solar system, and it has many moons.",
    "Yes. A spider has eight legs. That is two more than an insect.",
)
_INTERRUPTS = (
    "Wait, tell me something else.",
    "No, that is not what I meant.",
    "Can you say that again please?",
    "How far away is it?",
)
_PAUSE_S = 0.25
# The talker is another person: the same voice, lower by this factor.
_LOWER = 0.84
_DRIFT_PPM = 50.0
# The device knows its own buffers, not the rest of the way.
_UNTOLD_MS = 25.0


@dataclass(frozen=True, slots=True)
class EchoPlan:
    """How much is tried. endurance_delays_ms: where one talk of `minutes` each ends."""

    delays_ms: tuple[float, ...] = (40, 100, 200, 300, 400)
    endurance_delays_ms: tuple[float, ...] = (40, 200, 400)
    minutes: float = 10.0
    n_sentences: int = len(_SAID)
    n_interrupts: int = len(_INTERRUPTS)


def run_echo(
    voice: Voice,
    vad: Vad,
    *,
    plan: EchoPlan | None = None,
    policy: TurnPolicy | None = None,
    audio: AudioConfig | None = None,
    told: Callable[[str], None] = lambda _line: None,
) -> dict[str, Any]:
    """The acceptance trial: a room of 150 ms, 50 ppm of drift, a speaker 1.5 times the talker.

    Returns the trials by delay, the endurance talks, and whether both kept within their limits:
    less than 2 % of chunks taken for speech, no reply held or cut by its own echo.
    """
    plan, policy, audio = plan or EchoPlan(), policy or TurnPolicy(), audio or AudioConfig()
    assistant = said_by(voice, _SAID[: plan.n_sentences])
    sentences = [resampled(voice.speak(t, seed=i).pcm, _LOWER) for i, t in enumerate(_INTERRUPTS)]
    told(f"{len(assistant) / SAMPLE_RATE_HZ:.0f} s of speech over {len(plan.delays_ms)} delays")
    report = acceptance(
        lambda: EchoCanceller(noise_suppress=audio.noise_suppress),
        vad.start,
        assistant=assistant,
        sentences=sentences[: plan.n_interrupts],
        delays_ms=plan.delays_ms,
    )
    talks = []
    for delay_ms in plan.endurance_delays_ms if plan.minutes else ():
        told(f"{plan.minutes:g} minutes alone at {delay_ms:g} ms")
        # The drift shortens the way; it ends at delay_ms, so that all of it was in the range.
        first_ms = delay_ms + plan.minutes * 60 * _DRIFT_PPM / 1_000
        room = Room(delay_ms=first_ms, drift_ppm=_DRIFT_PPM, seed=int(delay_ms))
        setting = Setting(room)
        canceller = EchoCanceller(
            noise_suppress=audio.noise_suppress,
            delay_ms=max(0.0, first_ms - _UNTOLD_MS),
            warm_up_ms=audio.warm_up_ms,
        )
        talk = alone(canceller, vad, policy, assistant, setting, minutes=plan.minutes)
        talks.append({"delay_ms": delay_ms, **talk})
    worst = max([float(str(report["worst_alone_percent"])), *(t["alone_percent"] for t in talks)])
    n_own = sum(talk["self_interruptions"] for talk in talks)
    return {
        **report,
        "endurance": talks,
        "worst_alone_percent": worst,
        "self_interruptions": n_own,
        "passed": worst < MOST_ALONE_PERCENT and n_own == 0,
    }


def said_by(voice: Voice, texts: Sequence[str]) -> Pcm:
    """One after the other with short pauses, as a long reply; float32 (n,)."""
    pause = np.zeros(round(_PAUSE_S * SAMPLE_RATE_HZ), np.float32)
    parts = [part for i, t in enumerate(texts) for part in (voice.speak(t, seed=i).pcm, pause)]
    return np.concatenate(parts)


def alone(
    canceller: EchoCanceller,
    vad: Vad,
    policy: TurnPolicy,
    assistant: Pcm,
    setting: Setting,
    *,
    minutes: float,
) -> dict[str, Any]:
    """The assistant talks on for minutes; nobody else is there. What does it hear of itself?

    The way from microphone to turn machine is the live one. Returns alone_percent (chunks taken for
    speech) and how often its voice was lowered (ducked), held and cut; each hold counts as a
    self-interruption.
    """
    n_samples = round(minutes * 60_000 / FRAME_MS) * FRAME_SAMPLES
    far = np.tile(assistant, -(-n_samples // len(assistant)))[:n_samples]
    near = heard_at(far, setting)
    port = ClearPort(_Microphone(near), canceller)
    listening, ear, state = vad.start(), Ear(), TurnState()
    made: Counter[Decision] = Counter()
    n_chunks = n_speech = 0
    for at in range(0, n_samples, FRAME_SAMPLES):
        port.write(far[at : at + FRAME_SAMPLES])
        heard = port.read(engine_idle=False)
        assert heard is not None
        for chunk in ear.hear(heard):
            speech_p = listening.probability(chunk)
            state, decisions = turns.step(policy, state, Heard(speech_p, playing=True))
            made.update(decisions)
            n_chunks += 1
            n_speech += speech_p >= SPEECH_P
    return {
        "first_delay_ms": setting.room.delay_ms,
        "minutes": minutes,
        "alone_percent": round(100 * n_speech / n_chunks, 3),
        "ducked": made[Decision.DUCKED],
        "held": made[Decision.HELD],
        "yielded": made[Decision.YIELDED],
        "self_interruptions": made[Decision.HELD],
        "erle_db": canceller.erle_db and round(canceller.erle_db, 1),
    }


class _Microphone(NullPort):
    """Gives a recording, frame by frame."""

    def __init__(self, heard: Pcm) -> None:
        super().__init__(FastClock(lambda: False))
        self._frames = iter(heard.reshape(-1, FRAME_SAMPLES))

    def read(self, *, engine_idle: bool) -> Pcm | None:
        return next(self._frames, None)
