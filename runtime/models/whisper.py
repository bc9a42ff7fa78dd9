"""A Whisper artifact (`edge export asr`) through ONNX Runtime: features in, token strings out.

The same calls as CTranslate2's network in backends/ct2.py, so a Recogniser takes either. Greedy
only, one token a run; the cache is the host's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ArtifactError, ShapeError
from edge.manifest import Manifest, artifact_file, read_manifest, verify
from runtime.backends.ct2 import MAX_COLUMNS, MAX_POSITIONS, Decoded, DecodeOptions
from runtime.backends.ort import open_session

Float32 = NDArray[np.float32]

KIND = "whisper"
ENCODER, CROSS, DECODER = "encoder", "cross", "decoder"
VOCABULARY = "vocabulary.json"
END = "<|endoftext|>"
START = "<|startoftranscript|>"
_NO_SPEECH = ("<|nocaptions|>", "<|nospeech|>")
_TRANSCRIBE = "<|transcribe|>"


@dataclass(frozen=True, slots=True)
class _Ids:
    """What the search must know of the vocabulary."""

    of: dict[str, int]
    spelling: tuple[str, ...]
    never: NDArray[np.int64]
    never_first: NDArray[np.int64]
    end: int
    no_speech: int


class WhisperGraphs:
    """Loaded graphs; no state between calls."""

    def __init__(self, directory: Path, *, threads: int = 1, device: str = "cpu") -> None:
        """Raises ArtifactError for what is no whole Whisper artifact."""
        self.manifest = read_manifest(directory)
        if self.manifest.kind != KIND:
            raise ArtifactError(f"{directory} is a {self.manifest.kind}, not a {KIND}")
        verify(directory, self.manifest)
        self._graphs = {
            name: open_session(
                artifact_file(directory, self.manifest.graph(name).file),
                threads=threads,
                device=device,
                name=f"whisper {name}",
            )
            for name in (ENCODER, CROSS, DECODER)
        }
        config = self.manifest.config
        self.n_mels = int(config["n_mels"])
        self.multilingual = bool(config["multilingual"])
        self._n_positions = int(config["n_text_positions"])
        self._ids = _read_ids(directory, self.manifest)

    def encode(self, features: Float32) -> Float32:
        """What the encoder makes of one window.

        features: float32 (n_mels, n), n even, 2..3000, 10 ms a column. Returns float32
        (n // 2, d_model), 20 ms a row. Raises ShapeError.
        """
        n = features.shape[-1]
        if features.shape != (self.n_mels, n) or not 2 <= n <= MAX_COLUMNS or n % 2:
            raise ShapeError(
                "features", got=features.shape, want=f"({self.n_mels}, n), n even, 2..{MAX_COLUMNS}"
            )
        out = self._graphs[ENCODER].run({"features": np.ascontiguousarray(features, np.float32)})
        return np.asarray(out["encoded"], np.float32)

    def decode(self, encoded: Float32, prompt: Sequence[str], options: DecodeOptions) -> Decoded:
        """The likeliest tokens for float32 (rows, d_model), rows <= 1500, one after the other.

        prompt: control tokens, of which the last asks for the text. Only a beam of one. Raises
        ShapeError.
        """
        if encoded.ndim != 2 or not 0 < len(encoded) <= MAX_POSITIONS:
            raise ShapeError("encoded", got=encoded.shape, want=f"(1..{MAX_POSITIONS}, d_model)")
        run = _Run(self._graphs[DECODER], self._graphs[CROSS].run({"encoded": encoded}))
        no_speech_prob = 0.0
        logits = np.empty(0, np.float32)
        for word in prompt:
            logits = run.step(self._ids.of[word])
            if word == START:
                no_speech_prob = float(np.exp(_log_softmax(logits)[self._ids.no_speech]))
        tokens: list[str] = []
        score, n_scored = 0.0, 0
        room = min(options.max_tokens, self._n_positions - len(prompt))
        while n_scored < room:
            logits[self._ids.never] = -np.inf
            if not tokens:
                logits[self._ids.never_first] = -np.inf
            token = int(logits.argmax())
            score += float(_log_softmax(logits)[token])
            n_scored += 1
            if token == self._ids.end:
                break
            tokens.append(self._ids.spelling[token])
            logits = run.step(token)
        return Decoded(tuple(tokens), score / max(1, len(tokens)), no_speech_prob)


class _Run:
    """One window's decoding: the cache so far and what is attended to."""

    def __init__(self, graph: Any, cross: dict[str, NDArray[Any]]) -> None:
        self._graph, self._cross = graph, cross
        n_layers, n_heads, _, width = cross["cross_k"].shape
        self._past: dict[str, Float32] = {
            name: np.empty((n_layers, n_heads, 0, width), np.float32)
            for name in ("cache_k", "cache_v")
        }
        self._n = 0

    def step(self, token: int) -> Float32:
        """Logits (n_tokens,) of what follows a token; writable."""
        out = self._graph.run(
            {
                "token": np.array([token], np.int64),
                "position": np.array([self._n], np.int64),
                **self._past,
                **self._cross,
            }
        )
        for letter in "kv":
            cache = f"cache_{letter}"
            self._past[cache] = np.concatenate([self._past[cache], out[f"new_{letter}"]], axis=2)
        self._n += 1
        return np.asarray(out["logits"], np.float32)


def is_multilingual(vocabulary: Sequence[str]) -> bool:
    """Whether a checkpoint knows more than English: the others have one token less for languages.

    English ones have the tokens of the languages too, but 51 864 in all; the others have more.
    """
    return len(vocabulary) > 51_864 and _TRANSCRIBE in vocabulary


def _read_ids(directory: Path, manifest: Manifest) -> _Ids:
    path = artifact_file(directory, VOCABULARY)
    try:
        words = tuple(map(str, json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path} cannot be read ({error}); export the artifact again"
        ) from error
    of = {word: i for i, word in enumerate(words)}
    missing = [word for word in (START, END) if word not in of]
    no_speech = next((of[word] for word in _NO_SPEECH if word in of), None)
    if missing or no_speech is None:
        raise ArtifactError(f"{path} has no {missing or _NO_SPEECH}: not Whisper's vocabulary")
    never = np.array(manifest.config["suppressed"], np.int64)
    first = np.array(manifest.config["suppressed_first"], np.int64)
    return _Ids(of, words, never, first, of[END], no_speech)


def _log_softmax(logits: Float32) -> Float32:
    top = logits.max()
    return np.asarray(logits - top - np.log(np.exp(logits - top).sum()), np.float32)
