"""A codec against its float model: tokens of the same sound, sound of the same tokens.

Both decode the float model's tokens, so their samples belong to each other; then each goes its own
way from sound to sound, as it would be used.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ
from edge.wav import read_mono
from quant.measure.cache import Cache
from quant.measure.ears import COMPARED, Ears, Options, changes
from quant.measure.listen import Listener
from quant.measure.rows import Row
from quant.measure.speech import Utterance
from quant.measure.workers import Handler
from quant.quality.waves import fault
from runtime.models.mimi import MimiCodec

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

_SCORED = ("dnsmos", "plcmos")


def make_codec_handler(reference: str, options: Options, cache_folder: str) -> Handler:
    """For workers: opens the float codec and all metrics; a job is (candidate, utterance)."""
    return _CodecMeasurer(Path(reference), options, Path(cache_folder)).measure


class _CodecMeasurer:
    def __init__(self, reference: Path, options: Options, cache_folder: Path) -> None:
        self._reference = MimiCodec(reference)
        self._candidates: dict[str, MimiCodec] = {}
        self._ears = Ears(options)
        self._cache = Cache(cache_folder)
        self._listener = Listener(self._ears, self._cache, rate_hz=SAMPLE_RATE_HZ)
        self._metrics_key = ",".join(sorted(self._ears.missing)) or "all"

    def measure(self, job: tuple[str, Utterance]) -> Row:
        folder, one = job
        if folder not in self._candidates:
            self._candidates[folder] = MimiCodec(folder)
        candidate = self._candidates[folder]
        pcm = read_mono(one.path, SAMPLE_RATE_HZ)
        bad = fault(pcm)
        if bad:
            return Row(one.name, one.speaker, len(pcm) / SAMPLE_RATE_HZ, skipped=bad)
        frames = in_frames(pcm)
        original = frames.reshape(-1)
        key = (self._reference.fingerprint, one.sha256)
        ref = self._cache.arrays(("codec", *key), lambda: run_codec(self._reference, frames, None))
        ours = run_codec(candidate, frames, ref["codes"])
        figures = self._cache.figures(
            ("codec figures", self._metrics_key, *key),
            lambda: {**self._judged(original, ref["pcm"]), "work": float(ref["work"][0])},
        )
        return self._row(one, candidate.fingerprint, original, ref, ours, figures)

    def _row(
        self, one: Utterance, candidate: str, original: Float32, ref: dict[str, Float32],
        ours: dict[str, Float32], figures: dict[str, float],
    ) -> Row:  # fmt: skip
        equal = (ref["codes"] == ours["codes"]).mean(axis=0)
        own = self._listener.alone(ours["own"])
        metrics = self._ears.aligned(ref["pcm"], ours["pcm"], rate_hz=SAMPLE_RATE_HZ)
        against = {
            f"{n}_original": v
            for n, v in self._ears.compare(original, ours["pcm"], rate_hz=SAMPLE_RATE_HZ).items()
        }
        metrics |= {
            f"{name}_change": against[f"{name}_original"] - figures[f"{name}_original"]
            for name in COMPARED
            if f"{name}_original" in against and f"{name}_original" in figures
        }
        metrics |= {f"tokens_level_{i}": float(share) for i, share in enumerate(equal, 1)}
        metrics["tokens_mean"] = float(equal.mean())
        metrics |= changes(figures, own, _SCORED)
        metrics["speaker"] = self._ears.same_speaker(
            ref["pcm"], ours["own"], rate_hz=SAMPLE_RATE_HZ
        )
        counts = self._listener.word_errors(
            {"reference": ref["pcm"], "candidate": ours["own"]}, text=one.text, instead=original
        )
        parts = (self._reference.fingerprint, candidate, one.sha256)
        seconds = len(original) / SAMPLE_RATE_HZ
        return Row(
            one.name,
            one.speaker,
            seconds,
            metrics={k: v for k, v in metrics.items() if not np.isnan(v)},
            counts=counts,
            facts={f"reference.{k}": v for k, v in figures.items()}
            | {f"candidate.{k}": v for k, v in {**own, **against}.items()},
            sounds={
                "original": self._cache.sound(("original", one.sha256), original),
                "reference": self._cache.sound(("reference", *parts[::2]), ref["pcm"]),
                "candidate": self._cache.sound(("candidate", *parts), ours["pcm"]),
            },
            timing={"reference": figures["work"], "candidate": float(ours["work"][0])},
            missing=self._ears.missing,
        )

    def _judged(self, original: Float32, pcm: Float32) -> dict[str, float]:
        """An arm by itself and against the recording."""
        compared = self._ears.compare(original, pcm, rate_hz=SAMPLE_RATE_HZ)
        return {
            **{f"{name}_original": value for name, value in compared.items()},
            **self._listener.alone(pcm),
        }


def in_frames(pcm: Float32) -> Float32:
    """float32 (n,) at 24 kHz as frames, float32 (m, 1920), the last one filled with zeros."""
    n_frames = -(-len(pcm) // FRAME_SAMPLES)
    return np.pad(pcm, (0, n_frames * FRAME_SAMPLES - len(pcm))).reshape(n_frames, FRAME_SAMPLES)


def run_codec(codec: MimiCodec, frames: Float32, given: Int64 | None) -> dict[str, NDArray]:  # type: ignore[type-arg]
    """Encode, and decode given tokens and the codec's own.

    Returns codes int64 (n, levels), pcm and own float32 (n * 1920,), and work: seconds of
    processor time for a second of sound, encoded and decoded once.
    """
    state = codec.start()
    codes = np.empty((len(frames), codec.n_codebooks), np.int64)
    own = np.empty_like(frames)
    began_s = time.process_time()
    for i, pcm in enumerate(frames):
        state, codes[i] = codec.encode(state, pcm)
        state, own[i] = codec.decode(state, codes[i])
    work = (time.process_time() - began_s) / (frames.size / SAMPLE_RATE_HZ)
    decoded = own
    if given is not None and not np.array_equal(given, codes):
        decoded = np.empty_like(frames)
        state = codec.start()
        for i, tokens in enumerate(given):
            state, decoded[i] = codec.decode(state, tokens)
    return {
        "codes": codes, "pcm": decoded.reshape(-1), "own": own.reshape(-1),
        "work": np.array([work]),
    }  # fmt: skip
