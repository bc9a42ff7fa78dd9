"""What the language model is shown fits its budget, and holds only what was heard."""

from __future__ import annotations

from runtime.engines.context import Conversation, Turn, fit, heard_part, messages
from runtime.engines.engine import Context, Example


def conversation(n_turns: int) -> Conversation:
    out = Conversation(Context("be short", (Example("hi", "hello"),)), n_opening_tokens=4)
    for i in range(n_turns):
        out = out.with_turn(Turn(f"question {i} and more words", f"answer {i}", n_tokens=7))
    return out


def test_messages_keep_their_order_and_roles() -> None:
    said = messages(conversation(1), "now")
    assert [m["role"] for m in said] == [
        "system", "user", "assistant", "user", "assistant", "user",
    ]  # fmt: skip
    assert said[-1]["content"] == "now"


def test_an_unheard_reply_is_not_in_the_context() -> None:
    said = messages(Conversation(Context()).with_turn(Turn("a", "")), "b")
    assert [m["content"] for m in said] == ["a", "b"]


def test_fitting_drops_the_oldest_and_keeps_the_prompt() -> None:
    fitted = fit(conversation(40), 60)
    said = messages(fitted, "")
    assert sum(len(m["content"].split()) for m in said) <= 60
    assert said[0]["content"] == "be short"
    assert fitted.turns[-1].user.startswith("question 39")
    assert fitted.turns[0].user != "question 0 and more words"


def test_what_fits_is_left_alone() -> None:
    whole = conversation(3)
    assert fit(whole, 1_000) is whole


def test_dropping_leaves_room_for_several_turns() -> None:
    fitted = fit(conversation(40), 60)
    grown = fitted.with_turn(Turn("one two three", "four five", n_tokens=5))
    assert fit(grown, 60) is grown


def test_a_cut_clause_keeps_the_words_that_were_played() -> None:
    assert heard_part([("one two three.", 10, 10), ("four five six seven", 5, 10)]) == (
        "one two three. four five"
    )
    assert heard_part([("one two", 0, 10)]) == ""
    assert heard_part([]) == ""
