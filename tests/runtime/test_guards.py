"""Guards against hearing oneself: what is called an echo, and what never is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.engines.guards import own_words
from runtime.engines.loudness import Loudness, hear

REPLY = "Paris is the capital of France. It lies on the Seine, and two million people live there."


@pytest.mark.parametrize(
    "heard",
    [
        "Paris is the capital of France.",
        "is the capital of france it lies",
        "it lies on the sane and two million",
        "the capital of trance. It lies on the",
    ],
)
def test_what_was_just_said_is_an_echo_even_with_a_wrong_word(heard: str) -> None:
    assert own_words(heard, REPLY)


@pytest.mark.parametrize(
    "heard",
    [
        "",
        "yes",
        "stop it",
        "Paris",
        "What is the capital of Germany then?",
        "How many people live there now?",
        "Wait, tell me something else.",
    ],
)
def test_what_somebody_else_says_is_not(heard: str) -> None:
    assert not own_words(heard, REPLY)


def test_nothing_is_an_echo_of_silence() -> None:
    assert not own_words("the capital of France", "")


@given(st.integers(0, 15), st.integers(3, 17))
def test_any_run_of_three_words_or_more_is_an_echo(first: int, length: int) -> None:
    words = REPLY.split()[first : first + length]
    assert own_words(" ".join(words), REPLY) == (len(words) >= 3)


def chunk(level_db: float) -> np.ndarray:  # type: ignore[type-arg]
    return np.full(512, 10 ** (level_db / 20), np.float32)


def test_before_the_user_has_spoken_nothing_is_faint() -> None:
    state = hear(Loudness(), chunk(-80), is_user=False)
    assert not state.is_faint(12, in_turn=False)


def test_a_voice_is_faint_when_all_of_it_is_far_below_the_user_s() -> None:
    state = Loudness()
    for _ in range(30):
        state = hear(state, chunk(-30), is_user=True)
    for level_db, faint in ((-50, True), (-36, False)):
        now = state
        for _ in range(3):
            now = hear(now, chunk(level_db), is_user=False)
        assert now.is_faint(12, in_turn=False) is faint
        assert not now.is_faint(0, in_turn=False)


def test_one_loud_chunk_is_enough_not_to_be_faint_for_a_tenth_of_a_second() -> None:
    state = hear(Loudness(), chunk(-30), is_user=True)
    state = hear(state, chunk(-32), is_user=False)
    for expected in (False, False, True):
        state = hear(state, chunk(-60), is_user=False)
        assert state.is_faint(12, in_turn=False) is expected


def test_a_soft_end_of_a_word_is_not_faint_within_a_turn() -> None:
    state = hear(Loudness(), chunk(-30), is_user=True)
    for n_soft in range(1, 12):
        state = hear(state, chunk(-60), is_user=False)
        assert state.is_faint(12, in_turn=True) is (n_soft >= 8)


def test_the_user_s_level_rises_at_once_and_sinks_within_ten_seconds() -> None:
    state = hear(Loudness(), chunk(-40), is_user=True)
    for _ in range(10):
        state = hear(state, chunk(-20), is_user=True)
    assert state.talker_db == pytest.approx(-20, abs=1)
    for _ in range(10):
        state = hear(state, chunk(-40), is_user=True)
    assert state.talker_db == pytest.approx(-21, abs=1)
    for _ in range(600):
        state = hear(state, chunk(-40), is_user=True)
    assert state.talker_db == pytest.approx(-40, abs=2)
