"""What goes on behind the user while a bench talks: other people, or steady noise."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from apps.bench.questions import QUESTIONS
from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm
from runtime.models.tts import Voice
from runtime.sound.around import AroundPort
from runtime.sound.levels import from_db, speech_rms
from runtime.sound.lines import at_level, with_noise
from runtime.sound.port import AudioPort

Background = Literal["babble", "noise"]
BACKGROUNDS: tuple[Background, ...] = get_args(Background)

_SECONDS = 40
_N_VOICES = 3


def background(kind: Background, voice: Voice, *, seed: int = 0) -> Pcm:
    """40 s of it at the level (RMS) of 1.0, float32 (n,); to be repeated without end.

    babble: three people who talk without waiting for each other, each with another pitch.
    """
    n_samples = _SECONDS * SAMPLE_RATE_HZ // FRAME_SAMPLES * FRAME_SAMPLES
    if kind == "noise":
        rng = np.random.default_rng(seed)
        carrier = rng.standard_normal(n_samples).astype(np.float32)
        return at_level(with_noise(carrier, snr_db=0, seed=seed) - carrier, 1.0)
    said = [voice.speak(q.text, seed=seed + i).pcm for i, q in enumerate(QUESTIONS)]
    mix = np.zeros(n_samples, np.float32)
    rng = np.random.default_rng(seed)
    for pitch in np.linspace(0.8, 1.2, _N_VOICES):
        order = rng.permutation(len(said))
        talk = np.concatenate([resampled(said[k], float(pitch)) for k in order])
        mix += np.roll(np.resize(talk, n_samples), int(rng.integers(n_samples)))
    return at_level(mix, 1.0)


class InBackground(AroundPort):
    """Any port with a background added to what it hears, from the first frame to the last."""

    def __init__(self, port: AudioPort, sound: Pcm, *, level: float) -> None:
        """sound: float32 (whole frames,), repeated. level: factor for it."""
        super().__init__(port)
        self._sound = (sound * np.float32(level)).astype(np.float32)
        self._at = 0

    def read(self, *, engine_idle: bool) -> Pcm | None:
        """The port's frame and the background's."""
        pcm = super().read(engine_idle=engine_idle)
        if pcm is None:
            return None
        behind = self._sound[self._at : self._at + FRAME_SAMPLES]
        self._at = (self._at + FRAME_SAMPLES) % len(self._sound)
        return pcm + behind


def resampled(pcm: Pcm, pitch: float) -> Pcm:
    """Another person: the same sound with its pitch, its speed and its formants times `pitch`."""
    at = np.arange(0, len(pcm) - 1, pitch)
    out: Pcm = np.interp(at, np.arange(len(pcm)), pcm).astype(np.float32)
    return out


def level_below(speech: Pcm, below_db: float) -> float:
    """The factor that puts a background so many dB below speech, pauses not counted."""
    return speech_rms(speech) * from_db(-below_db)
