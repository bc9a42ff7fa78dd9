"""End of turn: what the model may and may not depend on, and that it tells ends from middles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.errors import ModelDamagedError, ShapeError
from edge.resample import Resampler
from edge.store import ModelStore
from runtime.models.logmel import Float32
from runtime.models.tts import Voice
from runtime.models.turn import EndOfTurn

pytestmark = pytest.mark.real

RATE = 16_000
FINISHED = ("What is the capital of France?", "How far away is the moon?", "Tell me a joke.")


@pytest.fixture(scope="module")
def model(starter_models: ModelStore) -> EndOfTurn:
    made = EndOfTurn(starter_models.files("smart-turn-3.2"))
    made.warm_up()
    return made


@pytest.fixture(scope="module")
def spoken(starter_models: ModelStore) -> dict[str, Float32]:
    """Text -> float32 at 16 kHz."""
    voice = Voice(starter_models.files("hibari-heart"))

    def say(text: str) -> Float32:
        return Resampler(24_000, RATE).push(voice.speak(text, seed=0).pcm, last=True)

    return {text: say(text) for text in FINISHED}


def test_a_finished_sentence_is_finished(model: EndOfTurn, spoken: dict[str, Float32]) -> None:
    assert min(model.probability(spoken[text]) for text in FINISHED) > 0.5


def test_the_middle_of_a_sentence_is_less_finished_than_its_end(
    model: EndOfTurn, spoken: dict[str, Float32]
) -> None:
    middles = [
        model.probability(pcm[: int(part * pcm.size)])
        for pcm in spoken.values()
        for part in (0.4, 0.6)
    ]
    ends = [model.probability(pcm) for pcm in spoken.values()]
    assert np.mean(middles) < np.mean(ends) - 0.3


def test_only_the_last_eight_seconds_count(model: EndOfTurn, spoken: dict[str, Float32]) -> None:
    rng = np.random.default_rng(0)
    last = rng.standard_normal(8 * RATE).astype(np.float32) * np.float32(0.01)
    last[-spoken[FINISHED[0]].size :] = spoken[FINISHED[0]]
    before = rng.standard_normal(3 * RATE).astype(np.float32)
    assert model.probability(np.concatenate([before, last])) == model.probability(last)


def test_silence_before_the_speech_changes_nothing(
    model: EndOfTurn, spoken: dict[str, Float32]
) -> None:
    pcm = spoken[FINISHED[1]]
    after_silence = np.concatenate([np.zeros(2 * RATE, np.float32), pcm])
    assert model.probability(after_silence) == model.probability(pcm)


def test_loudness_changes_little(model: EndOfTurn, spoken: dict[str, Float32]) -> None:
    pcm = spoken[FINISHED[2]]
    quiet = model.probability(pcm * np.float32(0.1))
    assert quiet == pytest.approx(model.probability(pcm), abs=0.05)


@pytest.mark.parametrize("n_samples", [0, 1, 1_000, 200_000])
def test_any_length_is_judged(model: EndOfTurn, n_samples: int) -> None:
    pcm = np.random.default_rng(1).standard_normal(n_samples).astype(np.float32)
    assert 0 <= model.probability(pcm) <= 1


@pytest.mark.parametrize("pcm", [np.zeros(RATE), np.zeros((2, RATE), np.float32)])
def test_what_is_no_sound_is_refused(model: EndOfTurn, pcm: Float32) -> None:
    with pytest.raises(ShapeError, match="pcm_16k"):
        model.probability(pcm)


def test_a_model_without_a_graph_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelDamagedError, match=r"\.onnx"):
        EndOfTurn({"notes.txt": tmp_path / "notes.txt"})
