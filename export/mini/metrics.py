"""What the evaluation counts: intelligibility (ESTOI), word errors, entropy of codes.

ESTOI after Jensen and Taal (2016), written from the paper: 15 third-octave bands from 150 Hz at
10 kHz, segments of 30 frames, rows and columns normalised, correlation meaned.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from edge.frame import SAMPLE_RATE_HZ, Pcm
from edge.resample import Resampler

_RATE_HZ = 10_000
_WINDOW, _HOP, _FFT = 256, 128, 512
_BANDS, _LOWEST_HZ = 15, 150.0
_SEGMENT = 30
_RANGE_DB = 40.0

Float64 = NDArray[np.float64]


def estoi(reference: Pcm, degraded: Pcm) -> float:
    """0 to 1, how intelligible `degraded` is beside `reference`; both float32 (n,), 24 kHz.

    Frames in which the reference is 40 dB below its loudest are left out of both. Less than 0.4 s
    of speech gives nan.
    """
    n = min(len(reference), len(degraded))
    clean = Resampler(SAMPLE_RATE_HZ, _RATE_HZ).push(np.ascontiguousarray(reference[:n]), last=True)
    other = Resampler(SAMPLE_RATE_HZ, _RATE_HZ).push(np.ascontiguousarray(degraded[:n]), last=True)
    x, y = _frames(clean), _frames(other)
    energy = 20 * np.log10(np.linalg.norm(x, axis=1) + 1e-12)
    kept = energy > energy.max(initial=-300.0) - _RANGE_DB
    x, y = _bands(x[kept]), _bands(y[kept])
    scores = []
    for end in range(_SEGMENT, x.shape[1] + 1):
        a, b = _normed(x[:, end - _SEGMENT : end]), _normed(y[:, end - _SEGMENT : end])
        scores.append(float(np.sum(a * b)) / _SEGMENT)
    return float(np.mean(scores)) if scores else float("nan")


def _frames(pcm: Pcm) -> Float64:
    window = np.hanning(_WINDOW + 2)[1:-1]
    count = max(0, (len(pcm) - _WINDOW) // _HOP + 1)
    starts = np.arange(count)[:, None] * _HOP + np.arange(_WINDOW)
    return np.asarray(np.asarray(pcm, np.float64)[starts] * window, np.float64)


def _bands(frames: Float64) -> Float64:
    """Third-octave magnitudes, (bands, frames)."""
    hz = np.fft.rfftfreq(_FFT, 1 / _RATE_HZ)
    middle = _LOWEST_HZ * 2 ** (np.arange(_BANDS) / 3)
    lines = (hz >= middle[:, None] * 2 ** (-1 / 6)) & (hz < middle[:, None] * 2 ** (1 / 6))
    power = np.abs(np.fft.rfft(frames, _FFT)) ** 2
    return np.asarray(np.sqrt(lines.astype(np.float64) @ power.T), np.float64)


def _normed(segment: Float64) -> Float64:
    """Rows, then columns, without mean and of unit length."""
    for axis in (1, 0):
        segment = segment - segment.mean(axis, keepdims=True)
        segment = segment / (np.linalg.norm(segment, axis=axis, keepdims=True) + 1e-12)
    return segment


def words_of(text: str) -> list[str]:
    """Lower-case words without punctuation."""
    return re.findall(r"[a-z0-9']+", text.lower().replace("-", " "))


def word_errors(wanted: str, got: str) -> tuple[int, int]:
    """(substitutions, deletions and insertions; number of wanted words)."""
    a, b = words_of(wanted), words_of(got)
    row = list(range(len(b) + 1))
    for i, word in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (word != other))
    return row[-1], len(a)


def entropy_share(codes: NDArray[np.integer], bins: int) -> list[float]:
    """For each codebook of codes (codebooks, frames): entropy over its largest possible value."""
    shares = []
    for row in codes:
        counts = np.bincount(row, minlength=bins).astype(np.float64)
        p = counts[counts > 0] / counts.sum()
        shares.append(float(-(p * np.log2(p)).sum() / np.log2(bins)))
    return shares
