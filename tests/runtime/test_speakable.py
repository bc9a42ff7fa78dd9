"""What a language model writes is turned into what a person says."""

from __future__ import annotations

import pytest

from runtime.engines.speakable import Speller, load_speller, speakable


@pytest.fixture(scope="module")
def speller() -> Speller:
    return load_speller()


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("**Paris** is the capital of *France*.", "Paris is the capital of France."),
        ("- item one", "item one"),
        ("1. First, do `x`.", "First, do x."),
        ("It costs $3.50 or £1.", "It costs three dollars and fifty cents or one pound."),
        ("$2 million", "two million dollars"),
        (
            "In 1999 came 1,250 people.",
            "In nineteen ninety-nine came one thousand two hundred fifty people.",
        ),
        ("2 + 3 = 5", "two plus three equals five"),
        ("At 7:30 pm, 8:00 am, 9:05.", "At seven thirty pm, eight am, nine oh five."),
        ("100°C is 50%", "one hundred degrees Celsius is fifty percent"),
        ("the 3rd of May", "the third of May"),
        ("Pages 10-20", "Pages ten to twenty"),
        ("See https://www.example.com/help", "See example dot com slash help"),
        ("Mail me@foo.org!", "Mail me at foo dot org!"),
        ("It is -4 outside", "It is minus four outside"),
        ("[a link](https://example.com)", "a link"),
        ("Fun! 🎉", "Fun!"),
    ],
)
def test_written_forms_become_words(speller: Speller, written: str, spoken: str) -> None:
    assert speakable(speller, written) == spoken


@pytest.mark.parametrize("nothing", ["", "   ", "😀", "---", "***", "```\n```", "..."])
def test_what_cannot_be_said_is_empty(speller: Speller, nothing: str) -> None:
    assert speakable(speller, nothing) == ""


def test_speaking_twice_changes_nothing(speller: Speller) -> None:
    once = speakable(speller, "On 2024-05-03 it cost $9.99 (about 10%) & more at 5:15.")
    assert speakable(speller, once) == once
    assert not any(c.isdigit() for c in once)
