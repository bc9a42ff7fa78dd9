"""What a smaller codec changes: codes that differ, level by level, and the sound of equal codes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge.errors import ArtifactError
from edge.frame import Pcm
from runtime.models.mimi import MimiCodec


@dataclass(frozen=True, slots=True)
class CodecDifference:
    """A candidate against its float reference on the same sound.

    equal: share of equal codes, coarsest level first. snr_db: the reference's sound over the
    difference, both decoding the reference's codes; infinite where there is none.
    """

    n_frames: int
    equal: tuple[float, ...]
    snr_db: float


def compare_codecs(
    reference: MimiCodec,
    candidate: MimiCodec,
    frames: np.ndarray[tuple[int, int], np.dtype[np.float32]],
    *,
    on_frame: Callable[[int, int], None] | None = None,
) -> CodecDifference:
    """Run both over frames, float32 (n, 1920). Raises ArtifactError where they do not match."""
    if (reference.n_codebooks, reference.bins) != (candidate.n_codebooks, candidate.bins):
        raise ArtifactError("the two codecs differ in codebooks; they are not the same model")
    equal = np.zeros(reference.n_codebooks)
    signal = noise = 0.0
    ours, theirs = candidate.start(), reference.start()
    for done, pcm in enumerate(frames, 1):
        theirs, want = reference.encode(theirs, pcm)
        ours, got = candidate.encode(ours, pcm)
        equal += got == want
        theirs, clean = reference.decode(theirs, want)
        ours, heard = candidate.decode(ours, want)
        signal += _energy(clean)
        noise += _energy(heard - clean)
        if on_frame is not None:
            on_frame(done, len(frames))
    shares = tuple(float(share) for share in equal / max(1, len(frames)))
    return CodecDifference(len(frames), shares, _snr_db(signal, noise))


def _energy(pcm: Pcm) -> float:
    return float(np.square(pcm, dtype=np.float64).sum())


def _snr_db(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
