"""What happens to a voice on its way to a microphone: rooms, noise, thin lines.

Everything is made from a numpy generator, so that equal seeds give equal sound.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge.errors import UsageError
from edge.frame import SAMPLE_RATE_HZ, Pcm

Rng = np.random.Generator


def coloured(rng: Rng, n_samples: int, slope: float) -> Pcm:
    """Noise whose amplitude falls as frequency to the power of -slope (1 brown, 0.5 pink, 0 white).

    float32 (n_samples,) with a mean power of one.
    """
    spectrum = np.fft.rfft(rng.standard_normal(n_samples))
    hz = np.fft.rfftfreq(n_samples, 1 / SAMPLE_RATE_HZ)
    spectrum *= np.maximum(hz, 30.0) ** -slope
    return _unit(np.fft.irfft(spectrum, n_samples))


def _unit(x: NDArray[np.float64]) -> Pcm:
    return (x / max(float(np.sqrt(np.mean(x**2))), 1e-9)).astype(np.float32)


def _hum(rng: Rng, n_samples: int, base_hz: float) -> Pcm:
    """Mains hum with harmonics."""
    t = np.arange(n_samples) / SAMPLE_RATE_HZ
    parts = [np.sin(2 * np.pi * base_hz * k * t + rng.uniform(0, 6.3)) / k for k in (1, 2, 3, 5, 7)]
    return _unit(np.sum(parts, 0) + 0.05 * rng.standard_normal(n_samples))


def _fan(rng: Rng, n_samples: int) -> Pcm:
    """Brown noise that beats slowly, with a blade tone."""
    t = np.arange(n_samples) / SAMPLE_RATE_HZ
    beat = 1 + 0.3 * np.sin(2 * np.pi * rng.uniform(0.5, 3) * t)
    tone = np.sin(2 * np.pi * rng.uniform(90, 200) * t)
    return _unit(coloured(rng, n_samples, 0.8) * beat + 0.4 * tone)


def _clatter(rng: Rng, n_samples: int) -> Pcm:
    """Short knocks over a quiet floor."""
    x = 0.05 * rng.standard_normal(n_samples)
    for start in rng.integers(0, max(1, n_samples - 4000), max(1, n_samples // 12_000)):
        n = int(rng.integers(300, 3000))
        knock = rng.standard_normal(n) * np.exp(-np.arange(n) / (n / 5))
        x[start : start + n] += knock[: n_samples - start]
    return _unit(x)


def _rain(rng: Rng, n_samples: int) -> Pcm:
    """Bright noise in thousands of drops."""
    drops = rng.standard_normal(n_samples) * (rng.random(n_samples) < 0.02)
    return _unit(drops - np.roll(drops, 1) + 0.2 * rng.standard_normal(n_samples))


def _sweep(rng: Rng, n_samples: int) -> Pcm:
    """A machine whose tone wanders."""
    hz = 400 + 250 * np.cumsum(coloured(rng, n_samples, 1.0)) / SAMPLE_RATE_HZ
    phase = 2 * np.pi * np.cumsum(hz) / SAMPLE_RATE_HZ
    return _unit(np.sin(phase) + 0.3 * rng.standard_normal(n_samples))


NOISES: dict[str, Callable[[Rng, int], Pcm]] = {
    "white": lambda rng, n: coloured(rng, n, 0.0),
    "pink": lambda rng, n: coloured(rng, n, 0.5),
    "brown": lambda rng, n: coloured(rng, n, 1.0),
    "hum": lambda rng, n: _hum(rng, n, 50.0),
    "fan": _fan,
    "clatter": _clatter,
    "rain": _rain,
    "machine": _sweep,
}
HELD_OUT_NOISES = ("rain", "machine")


def noise(kind: str, rng: Rng, n_samples: int) -> Pcm:
    """float32 (n_samples,) of mean power one. Raises UsageError for an unknown kind."""
    if kind not in NOISES:
        raise UsageError(f"no noise {kind!r}; known are {', '.join(NOISES)}")
    return NOISES[kind](rng, n_samples)


def add_noise(pcm: Pcm, kind: str, rng: Rng, snr_db: float) -> Pcm:
    """The sound with noise, so far below its own mean power."""
    power = float(np.mean(pcm**2)) if pcm.size else 0.0
    level = np.sqrt(max(power, 1e-6)) * 10 ** (-snr_db / 20)
    return np.asarray(np.clip(pcm + level * noise(kind, rng, len(pcm)), -1, 1), np.float32)


def room(pcm: Pcm, rng: Rng, *, decay_s: float) -> Pcm:
    """The sound in a room that falls by 60 dB in decay_s; the direct sound stays in place."""
    n = int(decay_s * SAMPLE_RATE_HZ)
    tail = rng.standard_normal(n) * 10 ** (-3 * np.arange(n) / n)
    tail[: int(0.004 * SAMPLE_RATE_HZ)] = 0
    tail *= rng.uniform(0.2, 0.6) / max(float(np.sqrt(np.sum(tail**2))), 1e-9)
    tail[0] = 1.0
    size = len(pcm) + n
    wet = np.fft.irfft(np.fft.rfft(pcm, size) * np.fft.rfft(tail, size), size)[: len(pcm)]
    return np.clip(wet, -1, 1).astype(np.float32)


def telephone(pcm: Pcm) -> Pcm:
    """What a telephone line lets through: 300 to 3400 Hz."""
    spectrum = np.fft.rfft(pcm)
    hz = np.fft.rfftfreq(len(pcm), 1 / SAMPLE_RATE_HZ)
    edges = 1 / (1 + (300 / np.maximum(hz, 1)) ** 8) / (1 + (hz / 3400) ** 16)
    return np.asarray(np.fft.irfft(spectrum * edges, len(pcm)), np.float32)


def worn(pcm: Pcm, rng: Rng, *, held_out: bool = False) -> Pcm:
    """A random line and room: half of the time none, otherwise a room, noise, a thin band.

    held_out: noises that training never hears, instead of those it does.
    """
    if rng.random() < 0.5:
        return pcm
    if rng.random() < 0.5:
        pcm = room(pcm, rng, decay_s=float(rng.uniform(0.1, 0.5)))
    if rng.random() < 0.2:
        pcm = telephone(pcm)
    if rng.random() < 0.7:
        kinds = [kind for kind in NOISES if (kind in HELD_OUT_NOISES) == held_out]
        pcm = add_noise(pcm, str(rng.choice(kinds)), rng, float(rng.uniform(8, 30)))
    return pcm
