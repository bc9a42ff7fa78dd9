"""The starter models that listen: voice activity, recogniser, end of turn, on spoken questions."""

from __future__ import annotations

import jiwer
import numpy as np
import pytest

from apps.bench.questions import QUESTIONS
from edge.errors import ShapeError
from edge.frame import Pcm
from edge.resample import Resampler
from edge.store import ModelStore
from runtime.models.asr import Recogniser, without_echo
from runtime.models.tts import Voice
from runtime.models.turn import EndOfTurn
from runtime.models.vad import CHUNK_SAMPLES, Listening, Vad

pytestmark = pytest.mark.real

_TEXTS = [q.text for q in QUESTIONS[:6]]


@pytest.fixture(scope="module")
def vad(starter_models: ModelStore) -> Vad:
    return Vad(starter_models.files("silero-vad-6.2"))


@pytest.fixture(scope="module")
def recogniser(starter_models: ModelStore) -> Recogniser:
    return Recogniser(starter_models.files("whisper-tiny.en"))


@pytest.fixture(scope="module")
def spoken(starter_models: ModelStore) -> list[Pcm]:
    """Each text as float32 at 16 kHz."""
    voice = Voice(starter_models.files("hibari-heart"))
    sounds = [voice.speak(text, seed=i).pcm for i, text in enumerate(_TEXTS)]
    return [Resampler(24_000, 16_000).push(sound, last=True) for sound in sounds]


def probabilities(listening: Listening, pcm: Pcm) -> list[float]:
    n = len(pcm) // CHUNK_SAMPLES * CHUNK_SAMPLES
    return [listening.probability(c) for c in pcm[:n].reshape(-1, CHUNK_SAMPLES)]


def test_speech_is_told_from_silence_and_noise(vad: Vad, spoken: list[Pcm]) -> None:
    rng = np.random.default_rng(0)
    hiss = (0.01 * rng.standard_normal(32_000)).astype(np.float32)
    assert np.mean(probabilities(vad.start(), spoken[0])) > 0.7
    assert np.max(probabilities(vad.start(), hiss)) < 0.5
    assert np.max(probabilities(vad.start(), np.zeros(32_000, np.float32))) < 0.1


def test_two_conversations_do_not_hear_each_other(vad: Vad, spoken: list[Pcm]) -> None:
    alone = probabilities(vad.start(), spoken[0])
    a, b = vad.start(), vad.start()
    together = []
    for i in range(len(alone)):
        part = slice(i * CHUNK_SAMPLES, (i + 1) * CHUNK_SAMPLES)
        together.append(a.probability(spoken[0][part]))
        b.probability(spoken[1][part] if part.stop <= len(spoken[1]) else spoken[0][part])
    assert together == alone


def test_a_chunk_of_the_wrong_length_is_refused(vad: Vad) -> None:
    with pytest.raises(ShapeError, match="chunk"):
        vad.start().probability(np.zeros(500, np.float32))


def test_short_windows_hear_the_words(recogniser: Recogniser, spoken: list[Pcm]) -> None:
    heard = [recogniser.transcribe(pcm).text for pcm in spoken]
    plain = [[t.lower().strip(" ?.!") for t in texts] for texts in (_TEXTS, heard)]
    assert jiwer.wer(plain[0], plain[1]) <= 0.1, heard


def test_the_same_sound_gives_the_same_words(recogniser: Recogniser, spoken: list[Pcm]) -> None:
    assert recogniser.transcribe(spoken[0]) == recogniser.transcribe(spoken[0])


@pytest.mark.parametrize("kind", ["empty", "silence", "hiss", "hum", "click"])
def test_sound_without_words_has_no_words(recogniser: Recogniser, kind: str) -> None:
    t = np.arange(32_000) / 16_000
    sounds = {
        "empty": np.zeros(0),
        "silence": np.zeros(32_000),
        "hiss": 0.02 * np.random.default_rng(1).standard_normal(32_000),
        "hum": 0.1 * np.sin(2 * np.pi * 50 * t),
        "click": np.concatenate([[0.9, -0.9], np.zeros(16_000)]),
    }
    assert recogniser.transcribe(sounds[kind].astype(np.float32)).text == ""


def test_a_long_speech_is_heard_to_its_end(recogniser: Recogniser, spoken: list[Pcm]) -> None:
    gap = np.zeros(8_000, np.float32)
    whole = np.concatenate([part for _ in range(4) for pcm in spoken for part in (pcm, gap)])
    assert len(whole) > 40 * 16_000
    text = recogniser.transcribe(whole).text.lower()
    assert text.count("capital of france") >= 3
    assert "hot" in text[-80:]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("What is it? What is it?", "What is it?"),
        ("What do bees make? What do bees", "What do bees make?"),
        ("Row, row, row your boat.", "Row, row, row your boat."),
        ("No.", "No."),
        ("", ""),
    ],
)
def test_an_echoed_sentence_is_said_once(said: str, kept: str) -> None:
    assert without_echo(said) == kept


def test_a_finished_question_sounds_more_finished_than_half_of_it(
    starter_models: ModelStore, spoken: list[Pcm]
) -> None:
    model = EndOfTurn(starter_models.files("smart-turn-3.2"))
    pause = np.zeros(3_200, np.float32)
    whole = [model.probability(np.concatenate([pcm, pause])) for pcm in spoken]
    half = [model.probability(np.concatenate([p[: len(p) // 2], pause])) for p in spoken]
    assert np.mean(whole) > np.mean(half) + 0.2
    assert sum(p > 0.5 for p in whole) >= len(whole) - 1
