"""Loudness against the standard's own reference points."""

from __future__ import annotations

import numpy as np
import pytest

from edge.errors import AudioFileError
from edge.loudness import loudness_lufs, normalised


def tone(seconds: float, level_db: float, rate_hz: int, hz: float = 997.0) -> np.ndarray:
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    return (10 ** (level_db / 20) * np.sin(2 * np.pi * hz * t)).astype(np.float32)


@pytest.mark.parametrize("rate_hz", [24_000, 44_100, 48_000])
@pytest.mark.parametrize("level_db", [0.0, -23.0, -40.0])
def test_a_997_hz_tone_has_the_loudness_of_the_standard(rate_hz: int, level_db: float) -> None:
    """A full-scale tone in one channel is -3.01 LUFS (ITU-R BS.1770-4, annex 1)."""
    found = loudness_lufs(tone(5.0, level_db, rate_hz), rate_hz)
    assert found == pytest.approx(level_db - 3.01, abs=0.1)


def test_low_tones_count_less_and_high_ones_more() -> None:
    low, middle, high = (loudness_lufs(tone(3, -20, 24_000, hz), 24_000) for hz in (30, 997, 6000))
    assert low < middle - 3
    assert high == pytest.approx(middle + 3.3, abs=0.4)


def test_pauses_and_whispers_are_left_out() -> None:
    loud, whisper = tone(4, -20, 24_000), tone(4, -45, 24_000)
    alone = loudness_lufs(loud, 24_000)
    assert loudness_lufs(np.concatenate([loud, np.zeros_like(loud)]), 24_000) == pytest.approx(
        alone, abs=0.3
    )
    assert loudness_lufs(np.concatenate([loud, whisper]), 24_000) == pytest.approx(alone, abs=0.3)


def test_normalised_sound_has_the_loudness_that_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    pcm = (rng.standard_normal(72_000) * 0.02).astype(np.float32)
    louder = normalised(pcm, 24_000, -24.0)
    assert louder.dtype == np.float32
    assert loudness_lufs(louder, 24_000) == pytest.approx(-24.0, abs=0.01)


def test_silence_and_scraps_are_refused() -> None:
    with pytest.raises(AudioFileError, match="silence"):
        normalised(np.zeros(48_000, np.float32), 24_000, -24.0)
    with pytest.raises(AudioFileError, match=r"at least 0\.4 s"):
        loudness_lufs(tone(0.3, 0, 24_000), 24_000)
