"""Whisper's features: what they must be by their definition, whatever computes them."""

from __future__ import annotations

import numpy as np
import pytest

from edge.errors import ShapeError
from runtime.models.logmel import (
    EAR_RATE_HZ,
    HOP_SAMPLES,
    N_MELS,
    WINDOW_SAMPLES,
    Float32,
    compress,
    log_mel,
    make_mel_plan,
    mel_power,
    normalised,
)

PLAN = make_mel_plan()


def noise(n: int, seed: int = 0) -> Float32:
    return (0.1 * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


def slaney_filters() -> np.ndarray:
    """The 80 triangles as a plain matrix (80, 201), line by line from the definition."""

    def hz(mel: float) -> float:
        return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    top_mel = 15 + 27 * np.log(8) / np.log(6.4)
    corners = [hz(i * top_mel / (N_MELS + 1)) for i in range(N_MELS + 2)]
    out = np.zeros((N_MELS, 201))
    for m in range(N_MELS):
        low, middle, high = corners[m : m + 3]
        for line in range(201):
            rise = (40 * line - low) / (middle - low)
            fall = (high - 40 * line) / (high - middle)
            out[m, line] = max(0.0, min(rise, fall)) * 2 / (high - low)
    return out


def direct(pcm: Float32) -> np.ndarray:
    """log-mel by a DFT matrix in float64."""
    n = np.arange(WINDOW_SAMPLES)
    dft = np.exp(-2j * np.pi * np.outer(n, np.arange(201)) / WINDOW_SAMPLES)
    hann = np.sin(np.pi * n / WINDOW_SAMPLES) ** 2
    around = np.concatenate([pcm[200:0:-1], pcm, pcm[-2:-202:-1]]).astype(np.float64)
    starts = range(0, pcm.size // HOP_SAMPLES * HOP_SAMPLES, HOP_SAMPLES)
    power = np.array([np.abs((around[s : s + 400] * hann) @ dft) ** 2 for s in starts])
    log_power = np.log10(np.maximum(slaney_filters() @ power.T, 1e-10))
    clipped: np.ndarray = np.maximum(log_power, log_power.max() - 8)
    return (clipped + 4) / 4


@pytest.mark.parametrize("n_samples", [201, 1_000, 16_000, 16_079])
def test_equals_the_definition(n_samples: int) -> None:
    pcm = noise(n_samples)
    got = log_mel(PLAN, pcm)
    assert got.dtype == np.float32
    assert got.shape == (N_MELS, n_samples // HOP_SAMPLES)
    np.testing.assert_allclose(got, direct(pcm), atol=2e-5)


def test_a_shift_by_one_hop_shifts_the_power_by_one_column() -> None:
    pcm = noise(8_000)
    whole, later = mel_power(PLAN, pcm), mel_power(PLAN, pcm[HOP_SAMPLES:])
    # The first two columns see the mirrored beginning.
    np.testing.assert_array_equal(later[:, 2:], whole[:, 3:])


def test_twice_as_loud_is_four_times_the_power() -> None:
    pcm = noise(4_000)
    np.testing.assert_allclose(mel_power(PLAN, 2 * pcm), 4 * mel_power(PLAN, pcm), rtol=1e-5)


@pytest.mark.parametrize("tone_hz", [100, 440, 1_000, 3_000, 7_000])
def test_a_tone_is_loudest_in_the_band_that_holds_it(tone_hz: int) -> None:
    t_s = np.arange(EAR_RATE_HZ) / EAR_RATE_HZ
    tone = (0.1 * np.sin(2 * np.pi * tone_hz * t_s)).astype(np.float32)
    loudest = int(np.argmax(mel_power(PLAN, tone).mean(axis=1)))
    assert slaney_filters()[loudest, tone_hz // 40 : tone_hz // 40 + 2].max() > 0


def test_nothing_is_more_than_eight_below_the_loudest() -> None:
    power = np.array([[1.0, 1e-3, 1e-12, 0.0]], np.float32)
    np.testing.assert_allclose(compress(power), [[1.0, 0.25, -1.0, -1.0]], atol=1e-6)
    silence = log_mel(PLAN, np.zeros(1_600, np.float32))
    np.testing.assert_allclose(silence, -1.5)


def test_normalised_sound_has_no_mean_and_variance_one() -> None:
    made = normalised(3 * noise(10_000) + np.float32(0.5))
    assert made.dtype == np.float32
    assert abs(made.mean()) < 1e-4
    assert made.std() == pytest.approx(1, abs=1e-3)
    assert not normalised(np.zeros(100, np.float32)).any()


@pytest.mark.parametrize(
    "pcm",
    [noise(200), np.zeros(4_000), np.zeros((2, 4_000), np.float32)],
    ids=["short", "f64", "2d"],
)
def test_what_is_no_sound_is_refused(pcm: Float32) -> None:
    with pytest.raises(ShapeError, match="pcm_16k"):
        log_mel(PLAN, pcm)
