"""How loud sound is to a listener: integrated loudness after ITU-R BS.1770-4, for one channel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.errors import AudioFileError

Float64 = NDArray[np.float64]

_BLOCK_S, _HOP_S = 0.4, 0.1
_OFFSET_DB = -0.691
_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE_LU = -10.0
# The two filters of the K weighting: gain in dB, quality, corner frequency.
_SHELF = (4.0, 2.0**-0.5, 1500.0)
_HIGH_PASS = (0.5, 38.0)


def loudness_lufs(pcm: NDArray[np.float32], rate_hz: int) -> float:
    """The integrated loudness of mono sound, -inf for silence.

    Raises AudioFileError where it is shorter than a block of 0.4 s.
    """
    n_block = round(_BLOCK_S * rate_hz)
    if len(pcm) < n_block:
        raise AudioFileError(f"{len(pcm) / rate_hz:.2f} s of sound: want at least {_BLOCK_S} s")
    energy = np.concatenate([[0.0], np.cumsum(_weighted(pcm, rate_hz) ** 2)])
    n_blocks = round((len(pcm) / rate_hz - _BLOCK_S) / _HOP_S) + 1
    first = (np.arange(n_blocks) * _HOP_S * rate_hz).astype(np.int64)
    power = (energy[np.minimum(first + n_block, len(pcm))] - energy[first]) / n_block
    heard = power[_lufs(power) >= _ABSOLUTE_GATE_LUFS]
    if not len(heard):
        return -np.inf
    gate = _lufs(heard.mean()) + _RELATIVE_GATE_LU
    return float(_lufs(heard[_lufs(heard) > gate].mean()))


def normalised(pcm: NDArray[np.float32], rate_hz: int, target_lufs: float) -> NDArray[np.float32]:
    """The sound at another loudness, float32; peaks may pass 1. Raises AudioFileError."""
    loudness = loudness_lufs(pcm, rate_hz)
    if not np.isfinite(loudness):
        raise AudioFileError("there is no voice in it, only silence")
    return (pcm * 10 ** ((target_lufs - loudness) / 20)).astype(np.float32)


def _lufs(power: Float64 | np.float64) -> Float64:
    return _OFFSET_DB + 10 * np.log10(np.maximum(power, 1e-30))


def _weighted(pcm: NDArray[np.float32], rate_hz: int) -> Float64:
    """K-weighted samples. Both filters ring for less than the second of zeros that is appended."""
    n = len(pcm) + rate_hz
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(n))
    response = _shelf(rate_hz, turn) * _high_pass(rate_hz, turn)
    weighted: Float64 = np.fft.irfft(np.fft.rfft(pcm.astype(np.float64), n) * response, n)
    return weighted[: len(pcm)]


def _shelf(rate_hz: int, z: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Frequency response of the high shelf; z: exp(-j omega)."""
    gain_db, quality, corner_hz = _SHELF
    a = 10 ** (gain_db / 40)
    omega = 2 * np.pi * corner_hz / rate_hz
    cos, alpha = np.cos(omega), 2 * np.sqrt(a) * np.sin(omega) / (2 * quality)
    over = (
        a * ((a + 1) + (a - 1) * cos + alpha),
        -2 * a * ((a - 1) + (a + 1) * cos),
        a * ((a + 1) + (a - 1) * cos - alpha),
    )
    under = (
        (a + 1) - (a - 1) * cos + alpha,
        2 * ((a - 1) - (a + 1) * cos),
        (a + 1) - (a - 1) * cos - alpha,
    )
    return _ratio(over, under, z)


def _high_pass(rate_hz: int, z: NDArray[np.complex128]) -> NDArray[np.complex128]:
    quality, corner_hz = _HIGH_PASS
    omega = 2 * np.pi * corner_hz / rate_hz
    cos, alpha = np.cos(omega), np.sin(omega) / (2 * quality)
    over = ((1 + cos) / 2, -(1 + cos), (1 + cos) / 2)
    return _ratio(over, (1 + alpha, -2 * cos, 1 - alpha), z)


def _ratio(
    over: tuple[float, float, float],
    under: tuple[float, float, float],
    z: NDArray[np.complex128],
) -> NDArray[np.complex128]:
    """A biquad's response from its coefficients, lowest power of z first."""
    top = over[0] + z * (over[1] + z * over[2])
    bottom = under[0] + z * (under[1] + z * under[2])
    response: NDArray[np.complex128] = top / bottom
    return response
