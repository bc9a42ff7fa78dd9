"""Loudness in numbers, and changing it without clicks."""

from __future__ import annotations

import numpy as np

from edge.frame import Pcm

# Below this (-120 dBFS) everything is called this.
_TINY = 1e-6
_BLOCK = 480  # 20 ms
# Blocks within 30 dB of the loudest are speech; the rest is pauses.
_ACTIVE = 1e-3


def rms(pcm: Pcm) -> float:
    """Root mean square of float32 (n,), 0.0 for n = 0."""
    if not pcm.size:
        return 0.0
    return float(np.sqrt(np.mean(np.square(pcm, dtype=np.float32))))


def to_db(level: float) -> float:
    """An amplitude as dBFS, -120 at the least."""
    return 20 * float(np.log10(max(level, _TINY)))


def from_db(level_db: float) -> float:
    """DBFS as an amplitude."""
    return float(10 ** (level_db / 20))


def speech_rms(pcm: Pcm) -> float:
    """Root mean square of the parts of float32 (n,) that are not pauses."""
    n_blocks = len(pcm) // _BLOCK
    if n_blocks == 0:
        return rms(pcm)
    powers = np.mean(np.square(pcm[: n_blocks * _BLOCK].reshape(n_blocks, _BLOCK)), axis=1)
    return float(np.sqrt(np.mean(powers[powers >= powers.max() * _ACTIVE])))


def duck(pcm: Pcm, gain_from: float, gain_to: float) -> Pcm:
    """Turn float32 (n,) down (or up) evenly from one gain to another, so that nothing clicks.

    gain_from, gain_to: factors at its first sample and just after its last; the next piece begins
    with this one's gain_to. Equal gains of 1 give pcm itself.
    """
    if gain_from == gain_to == 1.0:
        return pcm
    ramp = np.linspace(gain_from, gain_to, len(pcm), endpoint=False, dtype=np.float32)
    return pcm * ramp
