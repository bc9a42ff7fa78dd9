"""The starter voice: what it says is sound, trimmed, and the same each time."""

from __future__ import annotations

import numpy as np
import pytest

from edge.errors import ModelDamagedError
from edge.store import ModelStore
from runtime.models.tts import Voice, trim

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def voice(starter_models: ModelStore) -> Voice:
    return Voice(starter_models.files("hibari-heart"))


def test_speech_is_float32_within_bounds_and_begins_at_once(voice: Voice) -> None:
    pcm = voice.speak("The capital of France is Paris.", seed=0).pcm
    assert pcm.dtype == np.float32
    assert np.abs(pcm).max() <= 1
    assert 1.0 < len(pcm) / 24_000 < 4.0
    assert np.flatnonzero(np.abs(pcm) > 0.01)[0] < 0.05 * 24_000


def test_equal_words_and_seed_give_equal_samples(voice: Voice) -> None:
    a, b = (voice.speak("Hello there.", seed=3).pcm for _ in range(2))
    assert np.array_equal(a, b)


def test_slower_speech_is_longer(voice: Voice) -> None:
    slow, fast = (len(voice.speak("One two three.", seed=0, speed=s).pcm) for s in (0.8, 1.2))
    assert slow > fast * 1.2


@pytest.mark.parametrize("nothing", ["", "   "])
def test_no_words_give_no_sound(voice: Voice, nothing: str) -> None:
    assert voice.speak(nothing, seed=0).pcm.size == 0


def test_trimming_keeps_what_is_loud_and_fades_the_ends() -> None:
    pcm = np.zeros(24_000, np.float32)
    pcm[10_000:12_000] = 0.5
    out = trim(pcm)
    assert 2_000 <= len(out) <= 2_000 + 24 * 80
    assert out[0] == out[-1] == 0
    assert trim(np.zeros(100, np.float32)).size == 0


def test_a_model_without_a_voice_is_refused() -> None:
    with pytest.raises(ModelDamagedError, match=r"one \.onnx"):
        Voice({})
