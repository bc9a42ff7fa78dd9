"""Ears with a memory: what was heard of one sound by itself is kept by that sound's hash."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from quant.measure.cache import Cache
from quant.measure.ears import Ears, plain_words
from runtime.models.text import words_wrong

Float32 = NDArray[np.float32]
Counts = dict[str, tuple[float, float]]


class Listener:
    """Scores and words of single sounds at one rate."""

    def __init__(self, ears: Ears, cache: Cache, *, rate_hz: int) -> None:
        self._ears, self._cache, self._rate_hz = ears, cache, rate_hz
        self._able = ",".join(sorted(ears.missing)) or "all"

    def alone(self, pcm: Float32) -> dict[str, float]:
        """As Ears.alone."""
        return self._cache.figures(
            ("alone", self._able, _hash(pcm)),
            lambda: self._ears.alone(pcm, rate_hz=self._rate_hz),
        )

    def word_errors(
        self, sounds: dict[str, Float32], *, text: str = "", instead: Float32 | None = None
    ) -> Counts:
        """Words wrong and words said of each arm, as ARM.wer; {} where there are no words.

        text: what is said. instead: without a text, what is heard in this sound stands for it.
        """
        if "words" in self._ears.missing or (not text and instead is None):
            return {}
        origin = text or _hash(np.asarray(instead))
        said: list[str] | None = None
        found: Counts = {}
        for arm, pcm in sounds.items():
            key = ("word errors", hashlib.sha256(origin.encode()).hexdigest(), _hash(pcm))
            kept = self._cache.kept(key)
            if kept is None:
                said = said if said is not None else self._said(text, instead)
                heard = self._ears.words(pcm, rate_hz=self._rate_hz) or []
                wrong = words_wrong(said, heard)
                kept = self._cache.keep(key, {"wrong": wrong, "said": float(len(said))})
            found[f"{arm}.wer"] = (kept["wrong"], kept["said"])
        return found

    def _said(self, text: str, instead: Float32 | None) -> list[str]:
        if not text:
            return self._ears.words(np.asarray(instead), rate_hz=self._rate_hz) or []
        from runtime.engines.speakable import load_speller, speakable
        from runtime.models.asr import plain_word

        return plain_words(speakable(load_speller(), text), plain_word)


def _hash(pcm: Float32) -> str:
    return hashlib.sha256(np.ascontiguousarray(pcm).tobytes()).hexdigest()
