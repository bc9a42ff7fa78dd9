"""All metrics of sound, opened once in a process: what compares two sounds, what judges one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import EdgeError
from edge.lock import read_lock
from edge.resample import Resampler
from edge.store import ModelStore
from quant.quality import perceptual, waves
from quant.quality.mos import Dnsmos, Plcmos
from quant.quality.speaker import SpeakerNet

Float32 = NDArray[np.float32]

RATE_HZ = perceptual.RATE_HZ
_WAIVED = "waived: --without"
COMPARED = ("pesq", "estoi", "visqol")
WAIVABLE = (*COMPARED, "dnsmos", "plcmos", "speaker", "words")
# Higher is better, unless a metric is in this list.
LOWER_IS_BETTER = (
    "mel_db", "pause_rise_db", "text_kl", "audio_1_kl", "audio_kl", "wer_change",
    "artefact_change", "duration_change", "pitch_change",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Options:
    """without: metrics that are not computed and whose gates are waived, of WAIVABLE."""

    without: tuple[str, ...] = ()


class Ears:
    """Opened metrics. missing: metric -> why it cannot be had here."""

    def __init__(self, options: Options = Options()) -> None:
        self.missing: dict[str, str] = {}
        self._compare: dict[str, perceptual.Compare] = {}
        self._nets: dict[str, Any] = {}
        for name, opened in (
            ("pesq", perceptual.pesq_wb),
            ("estoi", perceptual.estoi),
            ("visqol", perceptual.visqol),
        ):
            found = _WAIVED if name in options.without else opened()
            if isinstance(found, str):
                self.missing[name] = found
            else:
                self._compare[name] = found
        store = ModelStore(read_lock())
        for name, make in (
            ("dnsmos", lambda: Dnsmos(store.files("dnsmos"))),
            ("plcmos", lambda: Plcmos(store.files("plcmos"))),
            ("speaker", lambda: SpeakerNet(store.files("ge2e-speaker"))),
            ("words", lambda: _recogniser(store)),
        ):
            self._open(name, make, options)
        self._dnsmos, self._plcmos = self._nets["dnsmos"], self._nets["plcmos"]
        self._speaker, self._words = self._nets["speaker"], self._nets["words"]

    def compare(self, reference: Float32, other: Float32, *, rate_hz: int) -> dict[str, float]:
        """Perceptual metrics of two sounds, resampled to 16 kHz; what is missing is absent."""
        n = min(len(reference), len(other))
        a, b = (at_16k(pcm[:n], rate_hz) for pcm in (reference, other))
        return {name: compare(a, b) for name, compare in self._compare.items()}

    def aligned(self, reference: Float32, other: Float32, *, rate_hz: int) -> dict[str, float]:
        """Metrics of sounds whose samples belong to each other: the same tokens, decoded twice."""
        n = min(len(reference), len(other))
        a, b = reference[:n], other[:n]
        rise = waves.pause_floor_db(b, rate_hz) - waves.pause_floor_db(a, rate_hz)
        return {
            "si_sdr_db": waves.si_sdr_db(a, b),
            "mel_db": waves.mel_distance_db(a, b, rate_hz),
            "pause_rise_db": rise,
            **self.compare(a, b, rate_hz=rate_hz),
        }

    def alone(self, pcm: Float32, *, rate_hz: int) -> dict[str, float]:
        """Scores of one sound by itself."""
        heard = at_16k(pcm, rate_hz)
        found: dict[str, float] = {}
        if self._dnsmos is not None:
            found["dnsmos"], found["dnsmos_p808"] = self._dnsmos.score(heard)
        if self._plcmos is not None:
            found["plcmos"] = self._plcmos.score(heard)
        found["silence"] = waves.silent_share(pcm, rate_hz)
        return found

    def same_speaker(self, one: Float32, other: Float32, *, rate_hz: int) -> float:
        """Cosine of two voices; NaN where the network is not here."""
        if self._speaker is None:
            return math.nan
        found: float = self._speaker.similarity(at_16k(one, rate_hz), at_16k(other, rate_hz))
        return found

    def words(self, pcm: Float32, *, rate_hz: int) -> list[str] | None:
        """What the recogniser hears, as plain words; None where there is none."""
        if self._words is None:
            return None
        heard: list[str] = self._words(at_16k(pcm, rate_hz))
        return heard

    def _open(self, name: str, make: Callable[[], Any], options: Options) -> None:
        self._nets[name] = None
        if name in options.without:
            self.missing[name] = _WAIVED
            return
        try:
            self._nets[name] = make()
        except EdgeError as error:
            self.missing[name] = str(error)


def at_16k(pcm: Float32, rate_hz: int) -> Float32:
    """float32 (n,) at another rate as float32 at 16 kHz, within [-1, 1]."""
    if rate_hz == RATE_HZ:
        return pcm
    return np.clip(Resampler(rate_hz, RATE_HZ).push(np.ascontiguousarray(pcm), last=True), -1, 1)


def changes(
    reference: Mapping[str, float], other: Mapping[str, float], names: tuple[str, ...]
) -> dict[str, float]:
    """The difference of two arms in metrics that both have, as NAME_change."""
    return {
        f"{name}_change": other[name] - reference[name]
        for name in names
        if name in reference and name in other
    }


def _recogniser(store: ModelStore) -> Callable[[Float32], list[str]]:
    from runtime.engines.speakable import load_speller, speakable
    from runtime.models.asr import Recogniser, plain_word

    recogniser = Recogniser(store.files("whisper-tiny.en"))
    speller = load_speller()

    def heard(pcm_16k: Float32) -> list[str]:
        text = recogniser.transcribe(pcm_16k, window="full").text
        return plain_words(speakable(speller, text), plain_word)

    return heard


def plain_words(text: str, plain_word: Callable[[str], str]) -> list[str]:
    """Words without capitals and punctuation."""
    return [word for word in map(plain_word, text.replace("-", " ").split()) if word]
