"""How wide the sound is: a telephone's 4 kHz, a headset's 8 kHz, or all that 24 kHz can carry."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm
from runtime.sound.levels import rms

# Middle of the voice, then what only a wider line carries; edges leave room for filters' slopes.
_BANDS_HZ = ((500, 3_000), (4_300, 7_000), (8_600, 11_000))
_KEPT_FRAMES = 100  # 8 s
_LEAST_FRAMES = 20
_LEAST_RMS = 1e-5  # less than half a step of 16 bits: nothing
# Speech is what is within 30 dB of the loudest; the middle's mean over it is the yardstick.
_SPEECH_PART = 1e-3
# In the tenth of frames in which it is loudest (consonants) a band that is carried is at -35 to
# 0 dB of the middle, per hertz; what codecs, resamplers and concealed gaps leave is below -55.
_LEAST_PART = 10 ** (-45 / 10)
# It also moves as speech does, by 10 dB and more; hiss and rounding do not, unless it is so loud
# that it must have come over the line.
_LEAST_SPREAD = 10 ** (3 / 10)
_LOUD_PART = 10 ** (-25 / 10)


@dataclass(frozen=True, slots=True, eq=False)
class BandState:
    """powers: float32 (n <= 100, 3), power of the bands in the last frames that held sound."""

    powers: NDArray[np.float32]


def band_start() -> BandState:
    """Nothing heard yet."""
    return BandState(np.zeros((0, len(_BANDS_HZ)), np.float32))


def band_step(state: BandState, pcm: Pcm) -> BandState:
    """Fold in one frame, float32 (1920,); silence counts for nothing."""
    if rms(pcm) < _LEAST_RMS:
        return state
    power = np.abs(np.fft.rfft(pcm * _window())) ** 2
    new = np.array([[np.mean(power[bins]) for bins in _bins()]], np.float32)
    return BandState(np.concatenate([state.powers[1 - _KEPT_FRAMES :], new]))


def band_hz(state: BandState) -> int | None:
    """4000, 8000 or 12000: how far up the line carries speech; None before 1.6 s of sound."""
    if len(state.powers) < _LEAST_FRAMES:
        return None
    middle = state.powers[:, 0]
    yardstick = float(np.mean(middle[middle >= middle.max() * _SPEECH_PART]))
    quiet, loud = np.percentile(state.powers[:, 1:], [10, 90], axis=0)
    moves = loud >= _LEAST_SPREAD * quiet
    carried = (loud >= _LEAST_PART * yardstick) & (moves | (loud >= _LOUD_PART * yardstick))
    if not carried[0]:
        return 4_000
    return 12_000 if carried[1] else 8_000


@cache
def _window() -> NDArray[np.float32]:
    return np.hanning(FRAME_SAMPLES).astype(np.float32)


@cache
def _bins() -> tuple[slice, ...]:
    per_hz = FRAME_SAMPLES / SAMPLE_RATE_HZ
    return tuple(slice(round(low * per_hz), round(high * per_hz)) for low, high in _BANDS_HZ)
