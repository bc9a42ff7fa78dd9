"""Voice activity on synthesised speech: speech is found, state stays in its conversation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.errors import ModelDamagedError, ShapeError
from edge.resample import Resampler
from edge.store import ModelStore
from runtime.models.tts import Voice
from runtime.models.vad import CHUNK_SAMPLES, Float32, Listening, Vad

pytestmark = pytest.mark.real

RATE = 16_000


@pytest.fixture(scope="module")
def vad(starter_models: ModelStore) -> Vad:
    return Vad(starter_models.files("silero-vad-6.2"))


@pytest.fixture(scope="module")
def speech(starter_models: ModelStore) -> Float32:
    """A sentence, float32 at 16 kHz."""
    voice = Voice(starter_models.files("hibari-heart"))
    said = voice.speak("Can you tell me what the weather will be like tomorrow?", seed=0).pcm
    return Resampler(24_000, RATE).push(said, last=True)


def probabilities(listening: Listening, pcm: Float32) -> np.ndarray:
    n = pcm.size // CHUNK_SAMPLES * CHUNK_SAMPLES
    return np.array([listening.probability(c) for c in pcm[:n].reshape(-1, CHUNK_SAMPLES)])


def test_probabilities_are_probabilities(vad: Vad, speech: Float32) -> None:
    found = probabilities(vad.start(), speech)
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize("gain", [1.0, 0.1, 0.02])
def test_speech_is_found_where_it_is(vad: Vad, speech: Float32, gain: float) -> None:
    silence = np.zeros(RATE, np.float32)
    pcm = np.concatenate([silence, speech * np.float32(gain), silence])
    found = probabilities(vad.start(), pcm) > 0.5
    first, last = np.flatnonzero(found)[[0, -1]] * CHUNK_SAMPLES
    assert abs(first - RATE) < 0.3 * RATE
    assert abs(last - (RATE + speech.size)) < 0.3 * RATE


@pytest.mark.parametrize("kind", ["white", "hum", "clicks", "zeros"])
def test_other_sounds_are_no_speech(vad: Vad, kind: str) -> None:
    t_s = np.arange(2 * RATE) / RATE
    clicks = np.zeros(2 * RATE)
    clicks[::5_000] = 0.5
    sounds = {
        "white": 0.02 * np.random.default_rng(0).standard_normal(2 * RATE),
        "hum": 0.1 * np.sin(2 * np.pi * 50 * t_s),
        "clicks": clicks,
        "zeros": np.zeros(2 * RATE),
    }
    found = probabilities(vad.start(), sounds[kind].astype(np.float32))
    assert np.mean(found > 0.5) < 0.05


def test_the_same_sound_gives_the_same_probabilities(vad: Vad, speech: Float32) -> None:
    np.testing.assert_array_equal(
        probabilities(vad.start(), speech), probabilities(vad.start(), speech)
    )


def test_a_conversation_goes_on_where_it_was(vad: Vad, speech: Float32) -> None:
    whole = probabilities(vad.start(), speech)
    listening, other = vad.start(), vad.start()
    half = len(whole) // 2 * CHUNK_SAMPLES
    first = probabilities(listening, speech[:half])
    probabilities(other, speech[::-1].copy())
    second = probabilities(listening, speech[half:])
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)


@pytest.mark.parametrize(
    "chunk", [np.zeros(511, np.float32), np.zeros(512), np.zeros((1, 512), np.float32)]
)
def test_other_chunks_are_refused(vad: Vad, chunk: Float32) -> None:
    with pytest.raises(ShapeError, match="chunk"):
        vad.start().probability(chunk)


def test_a_model_without_a_graph_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelDamagedError, match=r"\.onnx"):
        Vad({"notes.txt": tmp_path / "notes.txt"})
