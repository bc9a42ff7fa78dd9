"""A multistream model against its float model: the same tokens forced on both, then each freely.

The float model talks to what the user says and its tokens are kept. Both models are then led along
those tokens, and in every frame the distributions that they would have drawn from are compared,
stream by stream. Left free with the same seed, the windows in which a model is stuck are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quant.measure.rows import Row
from quant.measure.speech import Utterance
from quant.measure.workers import Handler
from runtime.models.moshi import MoshiModel
from runtime.models.multistream.state import MoshiState

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

STREAM_GATES = ("text_kl", "text_same_top", "audio_1_kl", "audio_kl", "artefact_change")
_WINDOW = 12  # frames, about a second
_FRAMES_PER_S = 12.5


@dataclass(frozen=True, slots=True)
class Trace:
    """A conversation. text: int64 (n,); codes: int64 (n, steps); *_logits: what they were from."""

    text: Int64
    codes: Int64
    text_logits: Float32
    audio_logits: Float32


def make_stream_handler(reference: str, cache_folder: str) -> Handler:
    """For workers: a job is (candidate's folder, conversation), whose file holds user codes."""
    del cache_folder
    return _StreamMeasurer(reference).measure


class _StreamMeasurer:
    def __init__(self, reference: str) -> None:
        self._models = {reference: MoshiModel(reference)}
        self._reference = reference

    def measure(self, job: tuple[str, Utterance]) -> Row:
        folder, one = job
        if folder not in self._models:
            self._models[folder] = MoshiModel(folder)
        user = np.load(one.path, allow_pickle=False)
        theirs, ours = self._models[self._reference], self._models[folder]
        want = follow(theirs, user, None)
        got = follow(ours, user, want)
        free = follow(ours, user, None)
        audio = kl(want.audio_logits, got.audio_logits).mean(axis=0)
        text = kl(want.text_logits, got.text_logits)
        same = want.text_logits.argmax(axis=1) == got.text_logits.argmax(axis=1)
        metrics = {
            "text_kl": float(text.mean()),
            "text_kl_p99": float(np.percentile(text, 99)),
            "text_same_top": float(same.mean()),
            "artefact_change": stuck_share(free) - stuck_share(want),
        }
        if audio.size:
            metrics |= {f"audio_{i}_kl": float(value) for i, value in enumerate(audio, 1)}
            metrics["audio_kl"] = float(audio.mean())
        return Row(one.name, one.speaker, len(user) / _FRAMES_PER_S, metrics=metrics)


def follow(model: MoshiModel, user: Int64, led: Trace | None) -> Trace:
    """Run a conversation, float model's way where led is given, else drawing with seed 0.

    user: int64 (n, n_user).
    """
    state = model.start(seed=0)
    try:
        steps = [_step(model, state, codes, led, i) for i, codes in enumerate(user)]
    finally:
        state.close()
    text, codes, text_logits, audio_logits = zip(*steps, strict=True)
    return Trace(np.array(text), np.array(codes), np.array(text_logits), np.array(audio_logits))


def _step(
    model: MoshiModel, state: MoshiState, user: Int64, led: Trace | None, at: int
) -> tuple[int, Int64, Float32, Float32]:
    from runtime.models.multistream.sampling import draw, gumbel

    state.line.write_user(user)
    model.run_temporal(state, state.line.model_input())
    how = state.settings.text
    text_logits = state.logits.copy()
    if led is None:
        text = draw(state.logits, how, gumbel(state.rng, (0 if how.greedy else how.top_k,)))
    else:
        text = int(led.text[at])
    codes, audio_logits = np.zeros(0, np.int64), np.zeros((0, 1), np.float32)
    if state.depth is not None:
        forced = None if led is None else led.codes[at]
        codes = state.depth.run(state.hidden, text, state.rng, forced=forced).copy()
        audio_logits = state.depth.logits.copy()
    state.line.write_generated(text, codes if state.depth is not None else None)
    return text, codes, text_logits, audio_logits


def kl(reference: Float32, other: Float32) -> Float64:
    """KL divergence of distributions given as logits along the last axis, in nats, >= 0."""
    a, b = _log_softmax(reference), _log_softmax(other)
    found: Float64 = np.maximum(0, (np.exp(a) * (a - b)).sum(axis=-1))
    return found


def stuck_share(trace: Trace) -> float:
    """Share of seconds in which the sound stands still or the text repeats itself."""
    n_windows = len(trace.text) // _WINDOW
    if not n_windows:
        return 0.0
    stuck = 0
    for i in range(n_windows):
        part = slice(i * _WINDOW, (i + 1) * _WINDOW)
        codes, text = trace.codes[part], trace.text[part]
        still = codes.size > 0 and len(np.unique(codes, axis=0)) == 1
        spoken = [int(t) for t in text if t > 3]
        looped = len(spoken) >= 6 and len(set(_triples(spoken))) <= len(spoken) // 3
        stuck += still or looped
    return stuck / n_windows


def _triples(tokens: Sequence[int]) -> list[tuple[int, ...]]:
    return [tuple(tokens[i : i + 3]) for i in range(len(tokens) - 2)]


def _log_softmax(logits: Float32) -> Float64:
    x = logits.astype(np.float64)
    x -= x.max(axis=-1, keepdims=True)
    found: Float64 = x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
    return found


def conversations(
    folder: Path, n_user: int, card: int, *, n: int, n_frames: int = 50
) -> list[Utterance]:
    """Seeded user codes where there is no speech to encode: they are no language."""
    import hashlib

    found = []
    for i in range(n):
        codes = np.random.default_rng(i).integers(0, card, (n_frames, n_user))
        path = folder / f"random-{i:02d}.npy"
        np.save(path, codes)
        digest = hashlib.sha256(codes.tobytes()).hexdigest()
        found.append(Utterance(path.stem, path, path.stem, digest, synthetic=True))
    return found
