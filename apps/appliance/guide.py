"""The first minutes with an appliance, spoken: is there a speaker, a microphone, and what to say.

Every sentence is spoken and printed. The microphone is judged by what it hears, not by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from apps.daemon.gate import level_db
from edge.frame import FRAME_SAMPLES, Pcm
from runtime.sound.port import AudioPort

Speak = Callable[[str], Pcm]
Say = Callable[[str], None]

_LISTEN_FRAMES = 75  # six seconds
_QUIET_DB = -60.0
_FAINT_DB = -45.0
_LOUD_DB = -6.0


@dataclass(frozen=True, slots=True)
class Heard:
    """What the microphone gave while the user was asked to speak, dBFS."""

    floor_db: float
    peak_db: float
    all_zero: bool


def verdict(heard: Heard) -> tuple[bool, str]:
    """Whether the microphone is of use, and what to say about it."""
    if heard.all_zero:
        return False, (
            "The microphone gives nothing at all. It is switched off, or I may not use it. "
            "Check its switch and its cable, then start me again."
        )
    if heard.peak_db < _QUIET_DB:
        return False, "I heard nobody. Is this the right microphone? Choose one with edge devices."
    if heard.peak_db < _FAINT_DB:
        return True, "I heard you, but faintly. Come nearer, or turn the microphone up."
    if heard.peak_db > _LOUD_DB:
        return True, "You are very loud. Turn the microphone down a little."
    return True, "I hear you well."


def opening(*, sealed: str, button: bool, phrase: str = "") -> tuple[str, ...]:
    """What is said first. phrase: the wake word; "" without one."""
    key = "Hold the button while you speak. " if button else "Just speak; I notice when you end. "
    if phrase:
        key = f"Say {phrase}, and then what you want. "
    offline = "Nothing you say leaves this machine. " if sealed == "sealed" else ""
    return (
        f"Hello. I am the voice assistant of this machine. {offline}".strip(),
        "If you hear this, the speaker works. Now say a sentence, please.",
        key + "You may interrupt me at any time.",
    )


def run_guide(
    port: AudioPort,
    speak: Speak,
    say: Say,
    *,
    sealed: str,
    button: bool,
    failed: Iterable[str],
    phrase: str = "",
) -> bool:
    """Hold the conversation; whether speaker and microphone seem to be of use.

    speak: text to samples. say: shows each sentence. failed: remedies that `edge doctor` has.
    """
    greeting, ask, how = opening(sealed=sealed, button=button, phrase=phrase)
    port.open()
    try:
        for sentence in (greeting, ask):
            say(sentence)
            _play(port, speak(sentence))
        heard = _listen(port)
        useful, said = verdict(heard)
        for sentence in (said, *failed, how if useful else ""):
            if sentence:
                say(sentence)
                _play(port, speak(sentence))
    finally:
        port.close(completed=True)
    return useful


def _play(port: AudioPort, pcm: Pcm) -> None:
    for frame in _frames(pcm):
        if port.read(engine_idle=False) is None:
            return
        port.write(frame)


def _listen(port: AudioPort) -> Heard:
    levels, all_zero = [], True
    for _ in range(_LISTEN_FRAMES):
        pcm = port.read(engine_idle=False)
        if pcm is None:
            break
        port.write(np.zeros(FRAME_SAMPLES, np.float32))
        all_zero = all_zero and not pcm.any()
        levels.append(level_db(pcm))
    if not levels:
        return Heard(-99.0, -99.0, all_zero=True)
    return Heard(float(np.quantile(levels, 0.1)), max(levels), all_zero)


def _frames(pcm: Pcm) -> Iterator[Pcm]:
    """Whole frames, the last one filled up with silence."""
    padded = np.concatenate([pcm, np.zeros(-len(pcm) % FRAME_SAMPLES, np.float32)])
    yield from padded.reshape(-1, FRAME_SAMPLES).astype(np.float32)
