"""A multistream model against its float model: the same tokens forced on both, then each freely.

The float model talks to what the user says and its tokens are kept. Both models are then led along
those tokens, and in every frame the distributions that they would have drawn from are compared,
stream by stream. Left free with the same seed, both are judged by what they say (freely.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import UsageError
from edge.frame import SAMPLE_RATE_HZ
from edge.wav import read_mono
from quant.measure.cache import Cache
from quant.measure.codec import in_frames
from quant.measure.ears import COMPARED, Ears, Options
from quant.measure.freely import judge, spoken
from quant.measure.listen import Counts, Listener
from quant.measure.rows import Row
from quant.measure.speech import Speech, Utterance
from quant.measure.workers import Handler
from runtime.engines.duplex import open_tokenizer
from runtime.models.mimi import MimiCodec
from runtime.models.mimi_probe import find_presets
from runtime.models.moshi import MoshiModel
from runtime.models.multistream.state import MoshiState

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

LED_GATES = ("text_kl", "text_same_top", "audio_1_kl", "audio_kl")
FREE_GATES = ("dnsmos_change", "plcmos_change", "speaker", "wer_change", "artefact_change")
SCRAMBLED = "scrambled"  # in place of a folder: the known-bad arm
_BY_EAR = ("dnsmos", "plcmos", "speaker", "words")
_FRAMES_PER_S = 12.5
_LISTENING = 45  # frames in which the user waits for an answer
_LEAST_FRAMES = 120  # a conversation, so that scores of 9 s need not repeat it


@dataclass(frozen=True, slots=True)
class Trace:
    """A conversation. text: int64 (n,); codes: int64 (n, steps); *_logits: what they were from.

    heard: text and codes as they belong together, a frame each once the delays are filled.
    """

    text: Int64
    codes: Int64
    text_logits: Float32
    audio_logits: Float32
    heard: tuple[tuple[int, Int64], ...]


def make_stream_handler(reference: str, codec: str, options: Options, cache_folder: str) -> Handler:
    """For workers: a job is (candidate's folder, conversation), whose file holds user codes.

    codec: decodes what both say; "" where there is none, and nothing is heard then.
    """
    return _StreamMeasurer(reference, codec, options, Path(cache_folder)).measure


class _StreamMeasurer:
    def __init__(self, reference: str, codec: str, options: Options, cache_folder: Path) -> None:
        self._models = {reference: MoshiModel(reference)}
        self._reference = reference
        self._codec = MimiCodec(codec) if codec else None
        self._tokenizer = open_tokenizer(self._models[reference])
        # Nothing is aligned here, so nothing is compared sample by sample.
        self._ears = Ears(Options((*options.without, *COMPARED)))
        for name in COMPARED:
            del self._ears.missing[name]
        self._cache = Cache(cache_folder)
        self._listener = Listener(self._ears, self._cache, rate_hz=SAMPLE_RATE_HZ)
        self.missing = dict(self._ears.missing)
        if self._codec is None:
            self.missing |= dict.fromkeys(_BY_EAR, "no codec: give one with --codec DIR")
        elif self._tokenizer is None:
            self.missing["words"] = "the artifact has no tokenizer"

    def measure(self, job: tuple[str, Utterance]) -> Row:
        folder, one = job
        if folder not in self._models:
            bad = folder == SCRAMBLED
            self._models[folder] = Scrambled(self._reference) if bad else MoshiModel(folder)
        user = np.load(one.path, allow_pickle=False)
        theirs, ours = self._models[self._reference], self._models[folder]
        want = follow(theirs, user, None)
        got = follow(ours, user, want)
        free = want if folder == self._reference else follow(ours, user, None)
        audio = kl(want.audio_logits, got.audio_logits).mean(axis=0)
        text = kl(want.text_logits, got.text_logits)
        same = want.text_logits.argmax(axis=1) == got.text_logits.argmax(axis=1)
        metrics = {
            "text_kl": float(text.mean()),
            "text_kl_p99": float(np.percentile(text, 99)),
            "text_same_top": float(same.mean()),
        }
        if audio.size:
            metrics |= {f"audio_{i}_kl": float(value) for i, value in enumerate(audio, 1)}
            metrics["audio_kl"] = float(audio.mean())
        found, counts, facts, sounds = self._heard(want, free)
        return Row(
            one.name,
            one.speaker,
            len(user) / _FRAMES_PER_S,
            metrics=metrics | found,
            counts=counts,
            facts=facts,
            sounds=sounds,
            missing=self.missing,
        )

    def _heard(
        self, want: Trace, free: Trace
    ) -> tuple[dict[str, float], Counts, dict[str, float], dict[str, str]]:
        """What both say, left to themselves: metrics, words, facts, sounds."""
        if self._codec is None or not want.codes.size:
            return {}, {}, {}, {}
        n_own = self._models[self._reference].spec.n_own
        said = []
        for trace in (want, free):
            text = [token for token, _ in trace.heard]
            codes = np.array([codes[:n_own] for _, codes in trace.heard], np.int64)
            said.append(spoken(text, codes, self._codec, self._tokenizer))
        metrics, counts, facts = judge(said[0], said[1], self._ears, self._listener)
        sounds = {
            arm: self._cache.sound(("said", hashlib.sha256(one.pcm.tobytes()).hexdigest()), one.pcm)
            for arm, one in zip(("reference", "candidate"), said, strict=True)
        }
        return metrics, counts, facts, sounds


class Scrambled(MoshiModel):
    """The float model that takes every token for another one: what no gate may let pass.

    Two bits a weight are not bad enough for that: a small model that knows its few sentences by
    heart goes on saying them.
    """

    def embed(self, tokens: Int64) -> Float32:
        """As the model's own, of tokens half a vocabulary away."""
        known = np.full(len(tokens), self.spec.card)
        known[0] = self.spec.text_card
        return super().embed(np.where(tokens < 0, tokens, (tokens + known // 2) % known))


def follow(
    model: MoshiModel, user: Int64, led: Trace | None, *,
    on_depth: Callable[[Mapping[str, Any]], None] | None = None,
) -> Trace:  # fmt: skip
    """Run a conversation, float model's way where led is given, else drawing with seed 0.

    user: int64 (n, n_user). on_depth: given what makes the depth graph take the same way again.
    """
    state = model.start(seed=0)
    try:
        steps = []
        for at, codes in enumerate(user):
            steps.append(_step(model, state, codes, led, at))
            if on_depth is not None and state.depth is not None:
                on_depth(state.depth.feeds(forced=steps[-1][1]))
    finally:
        state.close()
    text, codes, text_logits, audio_logits, heard = zip(*steps, strict=True)
    whole = tuple(frame for frame in heard if frame is not None)
    return Trace(
        np.array(text), np.array(codes), np.array(text_logits), np.array(audio_logits), whole
    )


def _step(
    model: MoshiModel, state: MoshiState, user: Int64, led: Trace | None, at: int
) -> tuple[int, Int64, Float32, Float32, tuple[int, Int64] | None]:
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
    out = state.line.output()
    heard = None if out is None else (out[0], out[1].copy())
    return text, codes, text_logits, audio_logits, heard


def kl(reference: Float32, other: Float32) -> Float64:
    """KL divergence of distributions given as logits along the last axis, in nats, >= 0."""
    a, b = _log_softmax(reference), _log_softmax(other)
    found: Float64 = np.maximum(0, (np.exp(a) * (a - b)).sum(axis=-1))
    return found


def _log_softmax(logits: Float32) -> Float64:
    x = logits.astype(np.float64)
    x -= x.max(axis=-1, keepdims=True)
    found: Float64 = x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
    return found


def conversations(
    folder: Path, n_user: int, card: int, *, n: int, n_frames: int = 50
) -> list[Utterance]:
    """Seeded user codes where there is no speech to encode: they are no language."""
    found = []
    for i in range(n):
        codes = np.random.default_rng(i).integers(0, card, (n_frames, n_user))
        path = folder / f"random-{i:02d}.npy"
        np.save(path, codes)
        digest = hashlib.sha256(codes.tobytes()).hexdigest()
        found.append(Utterance(path.stem, path, path.stem, digest, synthetic=True))
    return found


def find_codec(model: Path, given: Path | None) -> Path | None:
    """A model's codec: the given folder, or `mimi` in its own or beside it; the most precise."""
    places = [given] if given else [model / "mimi", model.parent / "mimi"]
    found = next((place for place in places if place.is_dir()), None)
    if given and found is None:
        raise UsageError(f"{given} is no codec's folder")
    return next(iter(find_presets(found).values())) if found else None


def encoded(clips: Speech, codec: Path, n_user: int, folder: Path) -> tuple[Utterance, ...]:
    """Speech as codes of the user's streams, a file for each clip; then he listens for a while."""
    mimi = MimiCodec(codec)
    found = []
    for one in clips.utterances:
        frames = in_frames(read_mono(one.path, SAMPLE_RATE_HZ))
        n_after = max(_LISTENING, _LEAST_FRAMES - len(frames))
        state, rows = mimi.start(), []
        for frame in np.pad(frames, ((0, n_after), (0, 0))):
            state, codes = mimi.encode(state, frame)
            rows.append(codes[:n_user])
        path = folder / f"{one.name}.npy"
        np.save(path, np.array(rows))
        found.append(replace(one, path=path))
    return tuple(found)
