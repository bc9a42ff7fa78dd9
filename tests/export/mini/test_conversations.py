"""Intents, their split, words over frames, and conversations put together from a bank."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edge.frame import FRAME_SAMPLES
from export.mini import effects, intents, texts, workshop
from export.mini.bank import Bank, Utterance
from export.mini.conversations import Maker, Manners
from export.mini.metrics import entropy_share, estoi, word_errors
from export.mini.numbers import number_words
from export.mini.text_pieces import PADDING, laid_over, open_pieces, train_pieces

N_FRAMES = 120


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> object:
    pytest.importorskip("sentencepiece")
    path = tmp_path_factory.mktemp("pieces") / "tokenizer.model"
    sentences = [ask for intent in intents.all_intents() for ask in intent.asks]
    train_pieces(sentences, 300, path)
    return open_pieces(path)


def _bank() -> Bank:
    """Two questions, their replies, a stop word and an assent, in codes that tell them apart."""
    rows, first = [], 0
    for kind, key, text, n, first_word, last_word in (
        ("reply", "hello", "Hello, nice to hear you.", 20, 0, 17),
        ("reply", "name", "I am Edge, your assistant.", 22, 0, 19),
        ("ask", "hello", "Good morning.", 16, 4, 12),
        ("ask", "name", "Who are you?", 15, 4, 11),
        ("control", "stop", "Stop.", 10, 4, 7),
        ("back-channel", "", "Okay.", 10, 4, 7),
        ("control", "again", "Say that again.", 14, 4, 11),
        ("control", "recall", "What did I just say?", 16, 4, 13),
        ("recall", "name", "You said, who are you?", 24, 0, 21),
    ):
        split = "train"
        rows.append(Utterance(kind, key, text, "somebody", split, first, n, first_word, last_word))
        first += n
    codes = np.concatenate([np.full((8, u.n_frames), 10 + i) for i, u in enumerate(rows)], 1)
    audio = np.zeros(first * FRAME_SAMPLES, np.int16)
    return Bank((audio,), tuple(rows), codes.astype(np.int16))


def _silent(pcm: np.ndarray) -> np.ndarray:
    return np.full((8, len(pcm) // FRAME_SAMPLES), 1)


def test_there_are_several_hundred_intents_with_keys_of_their_own() -> None:
    made = intents.all_intents()
    assert len(made) > 400
    assert len({intent.key for intent in made}) == len(made)
    assert {intent.key for intent in intents.core_intents()} == set(intents.CORE)


def test_every_intent_has_phrasings_on_both_sides_of_the_split() -> None:
    for intent in intents.all_intents():
        sides = [set(intent.asked(side)) for side in ("train", "validation", "held-out")]
        assert sides[0]
        assert sides[2]
        assert sum(map(len, sides)) == len(set().union(*sides)) == len(set(intent.every))


def test_later_phrasings_leave_the_first_ones_where_they_were() -> None:
    for intent in intents.all_intents():
        first = replace(intent, more=())
        assert all(intent.split(ask) == first.split(ask) for ask in intent.asks)


def test_no_later_phrasing_brings_a_held_out_one_into_training() -> None:
    for intent in intents.core_intents():
        first = replace(intent, more=())
        known = {_said(ask) for ask in first.asked("train")}
        trained = [_said(ask) for ask in intent.asked("train") if ask in intent.more]
        for held_out in map(_said, first.asked("held-out")):
            assert held_out not in trained
            if " " in held_out and not any(f" {held_out} " in f" {ask} " for ask in known):
                assert not any(f" {held_out} " in f" {ask} " for ask in trained)


def _said(ask: str) -> str:
    words = re.findall(r"[a-z0-9']+", ask.lower())
    return " ".join(word for word in words if word != "please")


def test_every_core_intent_is_asked_in_many_ways() -> None:
    for intent in intents.core_intents():
        assert len(intent.every) >= 20
        assert len(intent.asked("train")) >= 15


def test_numbers_are_spoken_as_people_speak_them() -> None:
    said = [number_words(n) for n in (0, 13, 40, 56, 100, 144)]
    assert said[:4] == ["zero", "thirteen", "forty", "fifty six"]
    assert said[4:] == ["one hundred", "one hundred and forty four"]


def test_training_sentences_are_none_of_the_held_out_ones() -> None:
    rng = np.random.default_rng(0)
    made = {texts.sentence(rng) for _ in range(300)}
    assert len(made) > 250
    assert made.isdisjoint(texts.held_out())


@pytest.mark.parametrize("kind", sorted(effects.NOISES))
def test_noises_have_unit_power_and_come_from_their_seed(kind: str) -> None:
    one = effects.noise(kind, np.random.default_rng(3), 24_000)
    two = effects.noise(kind, np.random.default_rng(3), 24_000)
    assert float(np.mean(one**2)) == pytest.approx(1.0, rel=1e-3)
    assert np.array_equal(one, two)


def test_worn_training_sound_never_holds_a_held_out_noise() -> None:
    kept = [kind for kind in effects.NOISES if kind not in effects.HELD_OUT_NOISES]
    assert len(kept) >= 5
    assert len(effects.HELD_OUT_NOISES) >= 2


def test_words_lie_in_order_on_a_row_of_the_given_length(pieces: object) -> None:
    row = laid_over(pieces, "What is the capital of France?", 30)  # type: ignore[arg-type]
    assert len(row) == 30
    spoken = [token for token in row if token not in (0, PADDING)]
    assert pieces.decode(spoken) == "What is the capital of France?"  # type: ignore[attr-defined]


def test_every_reply_can_be_written_whole(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    train_pieces(workshop.spoken_words(), workshop.N_PIECES, tmp_path / "tokenizer.model")
    whole = open_pieces(tmp_path / "tokenizer.model")
    replies = [intent.reply for intent in intents.all_intents()]
    assert [whole.decode(whole.encode(reply)) for reply in replies] == replies


def test_conversations_come_from_their_seed(pieces: object) -> None:
    maker = Maker(_bank(), pieces, _silent)
    one, two, other = (maker.make((1, n), N_FRAMES) for n in (5, 5, 6))
    assert np.array_equal(one.tokens, two.tokens)
    assert not np.array_equal(one.tokens, other.tokens)
    assert one.tokens.shape == (17, N_FRAMES)


def test_an_answer_follows_its_question_within_the_manners(pieces: object) -> None:
    manners = Manners(interrupted=0.0, agreed=0.0, empty=0.0, noisy_room=0.0)
    maker = Maker(_bank(), pieces, _silent, manners)
    turns = [turn for n in range(20) for turn in maker.make((2, n), N_FRAMES).turns]
    assert turns
    low, high = manners.answer_after
    assert all(low <= started - ended <= high for _, ended, started in turns)


def test_own_codes_are_those_of_the_reply_that_the_text_names(pieces: object) -> None:
    manners = Manners(interrupted=0.0, agreed=0.0, empty=0.0, noisy_room=0.0)
    made = Maker(_bank(), pieces, _silent, manners).make((3, 1), N_FRAMES)
    ask, _, started = made.turns[0]
    assert made.tokens[1, started] == (10 if ask.key == "hello" else 11)
    assert made.speaks[started]
    assert (made.tokens[0, started : started + 17] != PADDING).any()


def _followed_up(manners: Manners, pieces: object) -> list[tuple[int, int]]:
    """For every control in some conversations: own code at the reply before it and at its own."""
    maker = Maker(_bank(), pieces, _silent, manners)
    pairs = []
    for seed in range(12):
        made = maker.make((5, seed), N_FRAMES)
        for before, after in pairwise(made.turns):
            if after[0].kind == "control":
                pairs.append((int(made.tokens[1, before[2]]), int(made.tokens[1, after[2]])))
    return pairs


def test_say_that_again_brings_the_same_reply(pieces: object) -> None:
    manners = Manners(
        interrupted=0, agreed=0, empty=0, noisy_room=0, again=1.0, recalled=0.0, pause=(6, 9)
    )
    pairs = _followed_up(manners, pieces)
    assert pairs
    assert all(first == second for first, second in pairs)


def test_what_did_i_just_say_brings_the_users_words_back(pieces: object) -> None:
    manners = Manners(
        interrupted=0, agreed=0, empty=0, noisy_room=0, again=0.0, recalled=1.0, pause=(6, 9)
    )
    pairs = _followed_up(manners, pieces)
    assert pairs
    assert set(pairs) == {(11, 18)}


def test_an_exam_is_one_question_and_its_answer(pieces: object) -> None:
    manners = Manners(interrupted=1.0, again=1.0, noisy_room=1.0)
    maker = Maker(_bank(), pieces, _silent, manners)
    made = maker.exam(maker.bank.of("ask")[1], N_FRAMES)
    (turn,) = made.turns
    assert turn[0].key == "name"
    assert made.tokens[1, turn[2]] == 11
    assert set(np.unique(made.tokens[1])) == {1, 11}


def test_interrupted_replies_fall_silent_soon(pieces: object) -> None:
    manners = Manners(interrupted=1.0, stopped=1.0, empty=0.0, noisy_room=0.0)
    maker = Maker(_bank(), pieces, _silent, manners)
    lengths = []
    for seed in range(20):
        made = maker.make((4, seed), N_FRAMES)
        _, _, started = made.turns[0]
        quiet = np.flatnonzero(made.tokens[1, started:] == 1)
        lengths.append(int(quiet[0]) if len(quiet) else 99)
    assert min(lengths) < 17


def test_word_errors_count_what_differs() -> None:
    assert word_errors("The lights are on.", "the lights are on") == (0, 4)
    assert word_errors("The lights are on.", "the light is on now") == (3, 4)
    assert word_errors("Yes.", "") == (1, 1)


def test_estoi_is_one_for_equal_sound_and_falls_with_noise() -> None:
    rng = np.random.default_rng(0)
    t = np.arange(48_000) / 24_000
    voice = np.sin(2 * np.pi * 180 * t + 3 * np.sin(2 * np.pi * 3 * t)) * (1 + np.sin(9 * t))
    pcm = (0.1 * voice + 0.01 * rng.standard_normal(len(t))).astype(np.float32)
    noisy = (pcm + 0.3 * rng.standard_normal(len(t))).astype(np.float32)
    assert estoi(pcm, pcm) == pytest.approx(1.0, abs=1e-6)
    assert estoi(pcm, noisy) < 0.6


def test_entropy_is_whole_for_even_use_and_nothing_for_one_code() -> None:
    even, single = np.arange(64) % 16, np.zeros(64, np.int64)
    assert entropy_share(np.stack([even, single]), 16) == [pytest.approx(1.0), pytest.approx(0.0)]


def test_a_bank_that_is_not_there_says_how_to_make_it(tmp_path: Path) -> None:
    from edge.errors import ModelMissingError
    from export.mini.bank import open_sound

    with pytest.raises(ModelMissingError, match="edge mini data"):
        open_sound(tmp_path)
