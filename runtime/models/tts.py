"""The voice's role: a clause in, 24 kHz speech out. Only here is hibari known.

Source: hibari-tts (Apache-2.0); its voice model is a file of ours, checked against models.lock.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import MissingPackageError, ModelDamagedError
from edge.frame import SAMPLE_RATE_HZ, Pcm
from runtime.backends.ort import load_onnxruntime

# Speech is taken to begin and end where it first and last rises above this level; a little air
# is left at both ends, because an abrupt start clicks and clips soft consonants.
_FLOOR = 10 ** (-45 / 20)
_LEAD_MS = 10
TAIL_MS = 60
_FADE_MS = 5


@dataclass(frozen=True, slots=True)
class Speech:
    """A spoken clause. pcm: float32 (n,), 24 kHz mono, [-1, 1]. text: what it says."""

    pcm: Pcm
    text: str


class Voice:
    """One voice, loaded once; has no state between clauses."""

    def __init__(self, files: Mapping[str, Path], *, threads: int = 1) -> None:
        """files: the model's verified files by name, one of them the .onnx of the voice itself."""
        load_onnxruntime()  # first, because it keeps the library from phoning home
        try:
            hibari = importlib.import_module("hibari")
        except ImportError as error:
            raise MissingPackageError(
                "hibari-tts", extra="cascade", needed_for="the starter voice"
            ) from error
        model = _voice_file(files)
        try:
            self._hibari = hibari.Hibari(model=str(model), threads=threads)
            self._hibari.g2p  # noqa: B018 - loads the lexicon now, not in the first reply
        except Exception as error:
            raise ModelDamagedError(
                f"{model.name}: the voice cannot be loaded ({error})"
            ) from error

    @property
    def library(self) -> Any:
        """The library's own voice."""
        return self._hibari

    def warm_up(self) -> None:
        """Speak once for nobody."""
        self.speak("Hello there.", seed=0)

    def speak(self, text: str, *, seed: int, speed: float = 1.0) -> Speech:
        """Say text (words only); equal text, seed and speed give equal samples.

        speed: 0.5 slow .. 2 fast. The silence at both ends is cut to a few milliseconds; text
        without anything to say gives an empty pcm.
        """
        pcm = np.asarray(self._hibari(text, speed=speed, seed=seed), np.float32)
        return Speech(trim(pcm), text)

    def phonemes(self, text: str) -> list[str]:
        """Text as phonemes in Kokoro's alphabet, in the pieces that it is spoken in."""
        return list(self._hibari.phonemize(text))


class VoiceParts:
    """A voice in two halves with the network left out: what goes into it, what is made of it.

    For measuring networks against each other; the voice itself is `Voice`.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        """files: as for Voice. Raises as Voice does."""
        voice = Voice(files)
        self._hibari = voice.library
        self._synth = importlib.import_module("hibari.dsp").synth

    def phrases(self, text: str) -> list[NDArray[np.int64]]:
        """What the network takes for a text: phoneme ids, int64 (1, n), a sentence each."""
        found = (self._hibari.ids(phonemes) for phonemes in self._hibari.phonemize(text))
        return [np.asarray([ids], np.int64) for ids in found if len(ids) > 2]

    def sound(self, outputs: Sequence[NDArray[np.float32]], *, seed: int) -> Pcm:
        """What the network's outputs for one phrase sound like: float32 (n,), 24 kHz."""
        rng = np.random.default_rng(seed)
        pcm = np.asarray(self._synth(*(out[0] for out in outputs), rng), np.float32)
        return np.clip(pcm, -1, 1)


def trim(pcm: Pcm) -> Pcm:
    """Cut the silence before and after speech and fade both ends; float32 (n,) to (m <= n,)."""
    loud = np.flatnonzero(np.abs(pcm) > _FLOOR)
    if not loud.size:
        return np.zeros(0, np.float32)
    per_ms = SAMPLE_RATE_HZ // 1000
    first = max(0, int(loud[0]) - _LEAD_MS * per_ms)
    last = min(len(pcm), int(loud[-1]) + TAIL_MS * per_ms)
    out = np.clip(pcm[first:last], -1, 1).astype(np.float32)
    n_fade = min(_FADE_MS * per_ms, len(out) // 2)
    ramp = np.linspace(0, 1, n_fade, dtype=np.float32)
    out[:n_fade] *= ramp
    out[len(out) - n_fade :] *= ramp[::-1]
    return out


def _voice_file(files: Mapping[str, Path]) -> Path:
    """The voice model among the files: the .onnx that is not a letter-to-sound helper."""
    models = [p for name, p in files.items() if name.endswith(".onnx") and "oov" not in name]
    if len(models) != 1:
        raise ModelDamagedError(f"a voice needs one .onnx model, models.lock names {len(models)}")
    return models[0]
