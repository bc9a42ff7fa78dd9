"""A recogniser against its float model: words wrong on the same speech, and CTranslate2 beside.

Every arm hears the same 30 s windows and takes the likeliest token each time, so that the weights
are all that differs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import EdgeError
from edge.lock import read_lock
from edge.store import ModelStore
from edge.wav import read_mono
from quant.measure.ears import Options, plain_words
from quant.measure.rows import Row
from quant.measure.speech import Utterance
from quant.measure.workers import Handler
from runtime.models.asr import Recogniser, plain_word
from runtime.models.logmel import EAR_RATE_HZ
from runtime.models.text import words_wrong
from runtime.models.whisper import WhisperGraphs

Float32 = NDArray[np.float32]

ASR_GATES = ("wer_change", "same_words")
Recognise = Callable[[Float32], str]


def make_recogniser_handler(reference: str, options: Options, cache_folder: str) -> Handler:
    """For workers: a job is (candidate's folder, utterance)."""
    del options, cache_folder
    return _RecogniserMeasurer(Path(reference)).measure


class _RecogniserMeasurer:
    def __init__(self, reference: Path) -> None:
        from runtime.engines.speakable import load_speller

        self._nets = {str(reference): _open(reference)}
        self._reference = str(reference)
        self._speller = load_speller()
        self.missing: dict[str, str] = {}
        self._peer = self._open_peer()

    def measure(self, job: tuple[str, Utterance]) -> Row:
        folder, one = job
        if folder not in self._nets:
            self._nets[folder] = _open(Path(folder))
        pcm = read_mono(one.path, EAR_RATE_HZ)
        seconds = len(pcm) / EAR_RATE_HZ
        arms = {
            "reference": self._nets[self._reference],
            "candidate": self._nets[folder],
        }
        if self._peer is not None:
            arms["ctranslate2_int8"] = self._peer
        heard, timing = {}, {}
        for arm, transcribe in arms.items():
            began_s = time.process_time()
            heard[arm] = self._words(transcribe(pcm))
            timing[arm] = (time.process_time() - began_s) / seconds
        agreed = words_wrong(heard["reference"], heard["candidate"])
        counts: Mapping[str, tuple[float, float]] = {}
        if one.text:
            said = self._words(one.text)
            counts = {f"{arm}.wer": (words_wrong(said, heard[arm]), len(said)) for arm in heard}
        return Row(
            one.name,
            one.speaker,
            seconds,
            metrics={"same_words": max(0.0, 1 - agreed / max(1, len(heard["reference"])))},
            counts=counts,
            timing=timing,
            missing=self.missing,
        )

    def _words(self, text: str) -> list[str]:
        from runtime.engines.speakable import speakable

        return plain_words(speakable(self._speller, text), plain_word)

    def _open_peer(self) -> Recognise | None:
        try:
            peer = Recogniser(ModelStore(read_lock()).files("whisper-tiny.en"))
        except EdgeError as error:
            self.missing["ctranslate2_int8"] = str(error)
            return None
        return _in_full_windows(peer)


def _open(folder: Path) -> Recognise:
    return _in_full_windows(Recogniser(WhisperGraphs(folder)))


def _in_full_windows(recogniser: Recogniser) -> Recognise:
    return lambda pcm: recogniser.transcribe(pcm, window="full").text
