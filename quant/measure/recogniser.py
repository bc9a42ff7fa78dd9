"""A recogniser against its float model: words wrong on the same speech, and CTranslate2 beside.

Every arm hears the same 30 s windows and takes the likeliest token each time, so that the weights
are all that differs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import EdgeError
from edge.lock import read_lock
from edge.manifest import read_manifest
from edge.store import ModelStore
from edge.wav import read_mono
from quant.measure.ears import Options, plain_words, words_wrong
from quant.measure.rows import Row
from quant.measure.speech import Utterance
from quant.measure.workers import Handler
from runtime.backends.ort import open_session
from runtime.models.asr import plain_word, text_of
from runtime.models.logmel import EAR_RATE_HZ, log_mel, make_mel_plan

Float32 = NDArray[np.float32]

ASR_GATES = ("wer_change", "same_words")
_WINDOW_SAMPLES = 30 * EAR_RATE_HZ
_MOST_TOKENS = 120
_START, _END = "<|startoftranscript|>", "<|endoftext|>"
_TAIL = "<|notimestamps|>"


class OnnxWhisper:
    """A Whisper artifact as `edge export asr` writes it, decoded greedily."""

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        self.n_layers = int(read_manifest(folder).config["n_layers"])
        self._encoder = open_session(folder / "encoder.onnx", threads=threads)
        self._decoder = open_session(folder / "decoder.onnx", threads=threads)
        config = json.loads((folder / "config.json").read_text("utf-8"))
        vocabulary = (folder / "vocabulary.txt").read_text("utf-8").split("\n")
        self._tokens = vocabulary[:-1] if not vocabulary[-1] else vocabulary
        self._known = {token: i for i, token in enumerate(self._tokens)}
        self._never = np.array(config["suppress_ids"], np.int64)
        self._not_first = np.array(config["suppress_ids_begin"], np.int64)
        self._mel = make_mel_plan()

    def transcribe(self, pcm_16k: Float32) -> str:
        """Words in float32 (n,), 16 kHz, of at most 30 s."""
        padded = np.zeros(_WINDOW_SAMPLES, np.float32)
        padded[: min(len(pcm_16k), _WINDOW_SAMPLES)] = pcm_16k[:_WINDOW_SAMPLES]
        state: dict[str, NDArray[Any]] = dict(
            self._encoder.run({"mel": log_mel(self._mel, padded)[None]})
        )
        for i in range(self.n_layers):
            n_heads = state[f"cross_k.{i}"].shape[1]
            for letter in "kv":
                state[f"past_{letter}.{i}"] = np.zeros((1, n_heads, 0, 64), np.float32)
        prompt = [self._known[_START], self._known[_TAIL]]
        logits = np.zeros(len(self._tokens), np.float32)
        for position, token in enumerate(prompt):
            logits = self._step(state, token, position)
        said: list[str] = []
        for position in range(len(prompt), len(prompt) + _MOST_TOKENS):
            logits[self._never] = -np.inf
            if not said:
                logits[self._not_first] = -np.inf
            token = int(logits.argmax())
            if self._tokens[token] == _END:
                break
            said.append(self._tokens[token])
            logits = self._step(state, token, position)
        return text_of(said)

    def _step(self, state: dict[str, NDArray[Any]], token: int, position: int) -> Float32:
        out = self._decoder.run(
            {
                "token": np.array([token], np.int64),
                "position": np.array([position], np.int64),
                **state,
            }
        )
        for i in range(self.n_layers):
            for letter in "kv":
                state[f"past_{letter}.{i}"] = out[f"next_{letter}.{i}"]
        logits: Float32 = out["logits"][0].copy()
        return logits


def make_recogniser_handler(reference: str, options: Options, cache_folder: str) -> Handler:
    """For workers: a job is (candidate's folder, utterance)."""
    del options, cache_folder
    return _RecogniserMeasurer(Path(reference)).measure


class _RecogniserMeasurer:
    def __init__(self, reference: Path) -> None:
        from runtime.engines.speakable import load_speller

        self._nets = {str(reference): OnnxWhisper(reference)}
        self._reference = str(reference)
        self._speller = load_speller()
        self.missing: dict[str, str] = {}
        self._peer = self._open_peer()

    def measure(self, job: tuple[str, Utterance]) -> Row:
        folder, one = job
        if folder not in self._nets:
            self._nets[folder] = OnnxWhisper(Path(folder))
        pcm = read_mono(one.path, EAR_RATE_HZ)
        seconds = len(pcm) / EAR_RATE_HZ
        arms = {
            "reference": self._nets[self._reference].transcribe,
            "candidate": self._nets[folder].transcribe,
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

    def _open_peer(self) -> Any:
        from runtime.models.asr import Recogniser

        try:
            peer = Recogniser(ModelStore(read_lock()).files("whisper-tiny.en"))
        except EdgeError as error:
            self.missing["ctranslate2_int8"] = str(error)
            return None
        return lambda pcm: peer.transcribe(pcm, window="full").text


__all__ = ["ASR_GATES", "OnnxWhisper", "make_recogniser_handler"]
