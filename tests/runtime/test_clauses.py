"""Cutting a stream into clauses: nothing is lost, and the pieces do not depend on its pieces."""

from __future__ import annotations

import random

import pytest

from runtime.engines.clauses import ClauseRules, ClauseState, finish, push

TEXT = (
    "Well, Dr. Smith has 3.5 apples and two pears, which he ate. Then he left! "
    "Was it J. R. Hartley? Yes: it was.\n- one\n- two"
)


def cut(pieces: list[str]) -> list[str]:
    state = ClauseState()
    out: list[str] = []
    for piece in pieces:
        state, done = push(ClauseRules(), state, piece)
        out += done
    return [*out, *finish(state)]


@pytest.mark.parametrize("seed", range(8))
def test_any_split_of_the_stream_loses_nothing(seed: int) -> None:
    rng = random.Random(seed)
    cuts = sorted(rng.sample(range(1, len(TEXT)), 12))
    pieces = [TEXT[a:b] for a, b in zip([0, *cuts], [*cuts, len(TEXT)], strict=True)]
    assert " ".join(cut(pieces)).split() == TEXT.split()


def test_letter_by_letter_gives_sentences() -> None:
    assert cut(list("One two. Three four! Five?")) == ["One two.", "Three four!", "Five?"]


def test_titles_initials_and_numbers_do_not_end_a_sentence() -> None:
    clauses = cut(list("Dr. A. Smith paid 3.5 dollars. Then he left."))
    assert clauses == ["Dr. A. Smith paid 3.5 dollars.", "Then he left."]


def test_the_first_clause_may_end_at_a_comma_and_short_ones_may_not() -> None:
    assert cut(list("Yes, of course I can do that, with pleasure."))[0] == (
        "Yes, of course I can do that,"
    )


def test_the_first_sentence_does_not_wait_for_the_next_piece() -> None:
    state, done = push(ClauseRules(), ClauseState(), "It is Paris.")
    assert done == ("It is Paris.",)
    state, done = push(ClauseRules(), state, " It is large.")
    assert done == ()
    assert finish(state) == ("It is large.",)


@pytest.mark.parametrize("unfinished", ["It costs 3.", "Ask Dr.", "At 5 a.m.", "It is", "By J."])
def test_a_mark_that_may_not_be_an_end_is_waited_for(unfinished: str) -> None:
    assert push(ClauseRules(), ClauseState(), unfinished)[1] == ()


def test_an_empty_stream_has_no_clause() -> None:
    assert cut([]) == []
    assert cut(["  ", "\n"]) == []
