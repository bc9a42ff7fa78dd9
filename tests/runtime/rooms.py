"""Sound for tests that need a voice but no model: something with the shape of speech, seeded.

Rooms and poor lines themselves are in runtime/sound/lines.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm
from runtime.sound.levels import from_db, speech_rms

# What a syllable's spectrum peaks at: (first, second, third formant) in Hz.
_VOWELS = ((730, 1_090, 2_440), (270, 2_290, 3_010), (570, 840, 2_410), (530, 1_840, 2_480))


def voice(seconds: float, *, seed: int, level: float = 0.06, pitch_hz: float = 120.0) -> Pcm:
    """Syllables of vowels with hissed consonants and pauses between words; float32 at 24 kHz.

    level: RMS without pauses. The same seed and numbers give the same sound.
    """
    rng = np.random.default_rng(seed)
    n_samples = round(seconds * SAMPLE_RATE_HZ)
    parts: list[Pcm] = []
    n_made = 0
    while n_made < n_samples:
        parts += [_consonant(rng), _vowel(rng, pitch_hz)]
        if rng.random() < 0.25:
            parts.append(np.zeros(round(rng.uniform(0.08, 0.3) * SAMPLE_RATE_HZ), np.float32))
        n_made = sum(len(part) for part in parts)
    pcm = np.concatenate(parts)[:n_samples]
    return (pcm * np.float32(level / speech_rms(pcm))).astype(np.float32)


def hiss(seconds: float, *, level_db: float, seed: int) -> Pcm:
    """White noise, float32 at 24 kHz, of an RMS in dBFS."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(round(seconds * SAMPLE_RATE_HZ), np.float32)
    return noise * np.float32(from_db(level_db))


def whole_frames(pcm: Pcm) -> Pcm:
    """Padded with silence to a whole number of frames."""
    padded = np.zeros(-(-len(pcm) // FRAME_SAMPLES) * FRAME_SAMPLES, np.float32)
    padded[: len(pcm)] = pcm
    return padded


def by_frame(step: Callable[..., Pcm], *tracks: Pcm) -> Pcm:
    """Run whole tracks of equal length through a step that takes one frame of each."""
    frames = range(0, len(tracks[0]), FRAME_SAMPLES)
    return np.concatenate([step(*(t[at : at + FRAME_SAMPLES] for t in tracks)) for at in frames])


def db_between(before: Pcm, after: Pcm) -> float:
    """How many decibels quieter (RMS) the second is."""
    powers = (float(np.mean(np.square(x, dtype=np.float64))) + 1e-14 for x in (before, after))
    first, second = powers
    return 10 * float(np.log10(first / second))


def _vowel(rng: np.random.Generator, pitch_hz: float) -> Pcm:
    n_samples = round(rng.uniform(0.09, 0.22) * SAMPLE_RATE_HZ)
    t = np.arange(n_samples) / SAMPLE_RATE_HZ
    turn = pitch_hz * rng.uniform(0.85, 1.15) * t + rng.uniform(-20, 20) * t**2
    formants = _VOWELS[rng.integers(len(_VOWELS))]
    out = np.zeros(n_samples)
    for harmonic in range(1, int(5_000 / pitch_hz)):
        hz = harmonic * pitch_hz
        gain = sum(1 / (1 + ((hz - f) / 90) ** 2) / (1 + f / 500) for f in formants)
        out += gain * np.sin(2 * np.pi * harmonic * turn)
    return (out * _envelope(n_samples)).astype(np.float32)


def _consonant(rng: np.random.Generator) -> Pcm:
    n_samples = round(rng.uniform(0.03, 0.09) * SAMPLE_RATE_HZ)
    noise = np.diff(rng.standard_normal(n_samples + 1))
    return (0.05 * noise * _envelope(n_samples)).astype(np.float32)


def _envelope(n_samples: int) -> Pcm:
    return np.sin(np.pi * (np.arange(n_samples) + 0.5) / n_samples).astype(np.float32) ** 0.5
