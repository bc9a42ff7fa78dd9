"""Whisper's log-mel features in numpy: what the recogniser and the end-of-turn model listen to.

Source of the recipe: openai/whisper, whisper/audio.py (MIT): 25 ms Hann windows every 10 ms at
16 kHz, 80 mel bands on Slaney's scale, log10 of the power kept within 8 below the loudest point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edge.errors import ShapeError

Float32 = NDArray[np.float32]
Indices = NDArray[np.int64]

EAR_RATE_HZ = 16_000
WINDOW_SAMPLES = 400
HOP_SAMPLES = 160
HOPS_PER_S = EAR_RATE_HZ // HOP_SAMPLES
N_MELS = 80

_EDGE_SAMPLES = WINDOW_SAMPLES // 2
_SMALLEST_POWER = 1e-10
_RANGE_LOG10 = 8.0
# Slaney's scale: linear below 1 kHz (3 mels per 200 Hz), then 27 steps for each factor of 6.4.
_LINEAR_HZ_PER_MEL = 200.0 / 3.0
_KNEE_HZ = 1_000.0
_KNEE_MEL = _KNEE_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = float(np.log(6.4) / 27.0)


@dataclass(frozen=True, slots=True, eq=False)
class MelPlan:
    """What is the same for every call, computed once by `make_mel_plan`.

    The 80 filters are triangles between 82 corners, so each of the 201 spectral lines lies in one
    of 81 gaps and counts for the filter that rises there and for the one that falls.
    window: float32 (400,), a periodic Hann window.
    rising, falling: float32 (201,), the line's weight in either filter.
    gaps: int64 (n,), the gaps that hold lines. first_lines: int64 (n,), where each of them begins.
    """

    window: Float32
    rising: Float32
    falling: Float32
    gaps: Indices
    first_lines: Indices


def make_mel_plan() -> MelPlan:
    """The window and the 80 triangular filters, each of area one in Hz (Slaney's normalisation)."""
    phase = 2 * np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES
    window = 0.5 - 0.5 * np.cos(phase)
    line_hz = np.arange(_EDGE_SAMPLES + 1) * (EAR_RATE_HZ / WINDOW_SAMPLES)
    top_mel = _KNEE_MEL + np.log(EAR_RATE_HZ / 2 / _KNEE_HZ) / _LOG_STEP
    corner_hz = _mel_to_hz(np.linspace(0.0, top_mel, N_MELS + 2))
    gap = np.clip(np.searchsorted(corner_hz, line_hz, side="right") - 1, 0, N_MELS)
    place = (line_hz - corner_hz[gap]) / (corner_hz[gap + 1] - corner_hz[gap])
    height = np.zeros(N_MELS + 2)  # of the triangle that ends, or begins, outside the 80: none
    height[1:-1] = 2.0 / (corner_hz[2:] - corner_hz[:-2])
    gaps, first_lines = np.unique(gap, return_index=True)
    return MelPlan(
        window.astype(np.float32),
        (place * height[gap + 1]).astype(np.float32),
        ((1 - place) * height[gap]).astype(np.float32),
        gaps,
        first_lines,
    )


def mel_power(plan: MelPlan, pcm_16k: Float32) -> Float32:
    """Power in each mel band, before the logarithm.

    pcm_16k: float32 (n,), 16 kHz mono, n > 200; its ends are mirrored, so column i is centred on
    sample 160 * i. Returns float32 (80, n // 160), >= 0. Raises ShapeError.
    """
    if pcm_16k.ndim != 1 or pcm_16k.dtype != np.float32 or pcm_16k.size <= _EDGE_SAMPLES:
        raise ShapeError(
            "pcm_16k",
            got=f"{pcm_16k.dtype} {pcm_16k.shape}",
            want=f"float32 (n,), n > {_EDGE_SAMPLES}",
        )
    n_columns = pcm_16k.size // HOP_SAMPLES
    mirrored = np.pad(pcm_16k, _EDGE_SAMPLES, mode="reflect")
    pieces = sliding_window_view(mirrored, WINDOW_SAMPLES)[::HOP_SAMPLES][:n_columns]
    lines = np.fft.rfft(pieces * plan.window, axis=1)
    power = (lines.real**2 + lines.imag**2).astype(np.float32, copy=False)
    # Sums, not a matrix product: the threads of BLAS would spin on another core long after it.
    mel = np.zeros((N_MELS + 2, n_columns), np.float32)
    mel[plan.gaps + 1] += np.add.reduceat(power * plan.rising, plan.first_lines, axis=1).T
    mel[plan.gaps] += np.add.reduceat(power * plan.falling, plan.first_lines, axis=1).T
    return mel[1:-1]


def compress(power: Float32) -> Float32:
    """log10, kept within 8 of the loudest point, scaled to about -1..1; same shape, float32."""
    log_power = np.log10(np.maximum(power, np.float32(_SMALLEST_POWER)))
    floor = log_power.max(initial=-np.inf) - np.float32(_RANGE_LOG10)
    scaled: Float32 = (np.maximum(log_power, floor) + np.float32(4.0)) / np.float32(4.0)
    return scaled


def log_mel(plan: MelPlan, pcm_16k: Float32) -> Float32:
    """Features of float32 (n,), 16 kHz: float32 (80, n // 160). Raises ShapeError."""
    return compress(mel_power(plan, pcm_16k))


def normalised(pcm: Float32) -> Float32:
    """The same samples with mean 0 and variance 1 (silence stays silence), float32 (n,)."""
    centred = pcm - pcm.mean(dtype=np.float64)
    scaled: Float32 = (centred / np.sqrt(np.mean(centred**2) + 1e-7)).astype(np.float32)
    return scaled


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    above = _KNEE_HZ * np.exp(_LOG_STEP * (mel - _KNEE_MEL))
    return np.where(mel < _KNEE_MEL, mel * _LINEAR_HZ_PER_MEL, above)
