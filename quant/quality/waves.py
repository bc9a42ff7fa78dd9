"""What numpy alone can say about two sounds, or about one: waveform, spectrum, pauses, level.

Sounds are float32 (n,), mono, [-1, 1]. Frames here are analysis windows of 20 or 25 ms.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_TINY = 1e-12
_MAX_DB = 120.0  # what "no difference" is reported as, so that means stay finite
_FLOOR_DB = -80.0  # below the loudest point, spectra are taken for silence
SILENCE_PEAK = 1e-4
CLIPPED_SHARE = 0.005


def si_sdr_db(reference: Float32, other: Float32) -> float:
    """Scale-invariant signal to distortion of aligned sounds; 120 dB where they are equal."""
    a, b = reference.astype(np.float64), other.astype(np.float64)
    energy = float(a @ a)
    if energy < _TINY:
        return _MAX_DB if float(b @ b) < _TINY else -_MAX_DB
    target = (float(a @ b) / energy) * a
    noise = b - target
    signal = float(target @ target)
    ratio = (signal + _TINY * energy) / (float(noise @ noise) + _TINY * (signal + _TINY * energy))
    return min(_MAX_DB, 10 * math.log10(ratio))


def mel_distance_db(reference: Float32, other: Float32, rate_hz: int) -> float:
    """Mean over 25 ms windows of the RMS difference of 80 mel bands, in dB; 0 where equal.

    Bands below -80 dB re the reference's loudest one are taken for silence in both.
    """
    a, b = (mel_db(pcm, rate_hz, n_mels=80) for pcm in (reference, other))
    n = min(len(a), len(b))
    floor = float(a.max()) + _FLOOR_DB
    gap = np.maximum(a[:n], floor) - np.maximum(b[:n], floor)
    return float(np.sqrt((gap**2).mean(axis=1)).mean())


def pause_floor_db(pcm: Float32, rate_hz: int) -> float:
    """How loud the pauses are: 5th percentile of 20 ms levels re the peak of the levels, dB."""
    levels = levels_db(pcm, rate_hz)
    return float(np.percentile(levels, 5) - levels.max())


def levels_db(pcm: Float32, rate_hz: int) -> Float64:
    """RMS level of each 20 ms, dB re full scale, at least -100."""
    n = rate_hz // 50
    whole = pcm[: len(pcm) // n * n].astype(np.float64).reshape(-1, n)
    if not len(whole):
        whole = np.pad(pcm.astype(np.float64), (0, n - len(pcm)))[None]
    found: Float64 = 10 * np.log10((whole**2).mean(axis=1) + 1e-10)
    return found


def silent_share(pcm: Float32, rate_hz: int) -> float:
    """Share of 20 ms windows more than 40 dB below the loudest."""
    levels = levels_db(pcm, rate_hz)
    return float((levels < levels.max() - 40).mean())


def loudness_db(pcm: Float32, rate_hz: int) -> float:
    """RMS level of what is not silent, dB re full scale: what players are matched by."""
    levels = levels_db(pcm, rate_hz)
    loud = levels[levels > levels.max() - 30]
    return float(10 * np.log10(np.mean(10 ** (loud / 10))))


def fault(pcm: Float32) -> str | None:
    """Why a clip cannot be measured: it is silent, or clipped; None where it can."""
    peak = float(np.abs(pcm).max(initial=0.0))
    if peak < SILENCE_PEAK:
        return "silent"
    share = float((np.abs(pcm) >= 0.999 * peak).mean())
    if peak >= 0.99 and share > CLIPPED_SHARE:
        return f"clipped ({share:.1%} of its samples are at full scale)"
    return None


def median_pitch_hz(pcm: Float32, rate_hz: int) -> float:
    """Median fundamental of voiced 40 ms windows by autocorrelation, 60-400 Hz; 0 for none."""
    n, hop = rate_hz // 25, rate_hz // 100
    if len(pcm) < n:
        return 0.0
    frames = sliding_window_view(pcm.astype(np.float64), n)[::hop]
    frames = frames - frames.mean(axis=1, keepdims=True)
    power = (frames**2).mean(axis=1)
    frames = frames[power > power.max() * 1e-3]
    spectrum = np.fft.rfft(frames, 2 * n, axis=1)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, :n]
    correlation /= correlation[:, :1] + _TINY
    first, last = rate_hz // 400, rate_hz // 60
    # A window holds fewer and fewer products at longer lags.
    correlation /= 1 - np.arange(n) / n
    lags = correlation[:, first:last]
    best = lags.argmax(axis=1)
    voiced = lags[np.arange(len(lags)), best] > 0.6
    return float(rate_hz / np.median(best[voiced] + first)) if voiced.any() else 0.0


def mel_db(pcm: Float32, rate_hz: int, *, n_mels: int) -> Float64:
    """Log power in mel bands (Slaney's), 25 ms windows every 10 ms: float64 (n, n_mels), dB."""
    power = mel_power(pcm, rate_hz, n_fft=rate_hz // 40, hop=rate_hz // 100, n_mels=n_mels)
    found: Float64 = 10 * np.log10(power + 1e-12)
    return found


def mel_power(pcm: Float32, rate_hz: int, *, n_fft: int, hop: int, n_mels: int) -> Float64:
    """Power in Slaney's mel bands, windows centred and padded with zeros: float64 (n, n_mels)."""
    padded = np.pad(pcm.astype(np.float64), n_fft // 2)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    frames = sliding_window_view(padded, n_fft)[::hop] * window
    spectrum = np.fft.rfft(frames, axis=1)
    power: Float64 = (spectrum.real**2 + spectrum.imag**2) @ mel_filters(rate_hz, n_fft, n_mels).T
    return power


def mel_filters(rate_hz: int, n_fft: int, n_mels: int) -> Float64:
    """Triangles of area one in Hz on Slaney's scale, float64 (n_mels, n_fft // 2 + 1)."""
    step = math.log(6.4) / 27
    top_mel = 15 + math.log(rate_hz / 2 / 1000) / step
    mels = np.linspace(0, top_mel, n_mels + 2)
    corners = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(step * (mels - 15)))
    lines = np.linspace(0, rate_hz / 2, n_fft // 2 + 1) if n_fft % 2 == 0 else (
        np.arange(n_fft // 2 + 1) * rate_hz / n_fft
    )  # fmt: skip
    rise = (lines - corners[:-2, None]) / np.diff(corners)[:-1, None]
    fall = (corners[2:, None] - lines) / np.diff(corners)[1:, None]
    found: Float64 = np.maximum(0, np.minimum(rise, fall)) * (
        2 / (corners[2:] - corners[:-2])[:, None]
    )
    return found
