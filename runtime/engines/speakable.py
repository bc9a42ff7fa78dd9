"""Written forms become words that a voice can say: markdown, numbers, symbols, addresses.

markdown-it-py reads the markdown and unicode-rbnf (the ICU rule sets) spells the numbers; what is
left here is only which sign stands for which word.
"""

from __future__ import annotations

import importlib
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge.errors import MissingPackageError

_URL = re.compile(
    r"\b(?:https?://)?(?:www\.)?((?:[\w-]+\.)+[a-z]{2,})(/[\w./?=&%#-]*)?", re.IGNORECASE
)
_EMAIL = re.compile(r"\b([\w.+-]+)@((?:[\w-]+\.)+[a-z]{2,})\b", re.IGNORECASE)
_TIME = re.compile(r"\b([01]?\d|2[0-3]):([0-5]\d)(?!\d)")
_MONEY = re.compile(r"([$€£])\s?(\d[\d,]*)(?:\.(\d\d))?(?:\s(thousand|million|billion|trillion))?")
_ORDINAL = re.compile(r"\b(\d[\d,]*)(st|nd|rd|th)\b", re.IGNORECASE)
_YEAR = re.compile(r"\b(1[1-9]\d\d|20[0-4]\d)\b(?!\s*(?:%|°|\w*meters|km|kg|miles|people))")
_RANGE = re.compile(r"(?<=\d)\s?[–-]\s?(?=\d)")
_NUMBER = re.compile(r"(?<![\w.])[-−]?\d[\d,]*(?:\.\d+)?")
_SPACE = re.compile(r"[ \t]+")
_BEFORE_STOP = re.compile(r"\s+([.,;:!?])")
_LIST_MARK = re.compile(r"^\s*(?:[-*+•]|\d+[.)])\s+")

_MONEY_WORDS = {"$": ("dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny")}
_SIGNS = (
    ("°C", " degrees Celsius"),
    ("°F", " degrees Fahrenheit"),
    ("°", " degrees"),
    ("%", " percent"),
    ("&", " and "),
    ("@", " at "),
    ("#", " number "),
    ("×", " times "),
    ("÷", " divided by "),
    ("≈", " about "),
    ("≤", " at most "),
    ("≥", " at least "),
    ("→", " to "),
    ("²", " squared"),
    ("³", " cubed"),
    ("½", " one half"),
    ("¼", " one quarter"),
    ("¾", " three quarters"),
)
_BETWEEN_NUMBERS = (("+", " plus "), ("=", " equals "), ("*", " times "), ("/", " over "))


@dataclass(frozen=True, slots=True)
class Speller:
    """The two libraries, loaded once.

    plain: markdown text to plain text. spell: a number and its manner to words.
    """

    plain: Callable[[str], str]
    spell: Callable[[str, str], str]


def load_speller() -> Speller:
    """Load the libraries. Raises MissingPackageError."""
    try:
        markdown_it = importlib.import_module("markdown_it")
        rbnf = importlib.import_module("unicode_rbnf")
    except ImportError as error:
        raise MissingPackageError(
            error.name or "markdown-it-py", extra="cascade", needed_for="speaking written text"
        ) from error
    parser = markdown_it.MarkdownIt("commonmark").enable("table").enable("strikethrough")
    engine = rbnf.RbnfEngine.for_language("en")
    manners = {
        "cardinal": rbnf.FormatPurpose.CARDINAL,
        "ordinal": rbnf.FormatPurpose.ORDINAL,
        "year": rbnf.FormatPurpose.YEAR,
    }

    def spell(number: str, manner: str) -> str:
        return str(engine.format_number(number.replace("−", "-"), manners[manner]).text)

    return Speller(lambda text: _plain(parser, text), spell)


def speakable(speller: Speller, text: str) -> str:
    """Text as a person would read it aloud, one line, or "" if nothing in it can be said."""
    text = speller.plain(text)
    text = _EMAIL.sub(lambda m: f"{_dotted(m[1])} at {_dotted(m[2])}", text)
    text = _URL.sub(lambda m: _dotted(m[1]) + _path_words(m[2]), text)
    text = _numbers(speller, text)
    for sign, words in _SIGNS:
        text = text.replace(sign, words)
    text = "".join(c for c in text if not _is_picture(c))
    text = _BEFORE_STOP.sub(r"\1", _SPACE.sub(" ", text.replace("\n", " "))).strip()
    return text if any(c.isalnum() for c in text) else ""


def _plain(parser: Any, text: str) -> str:
    """The words of a markdown text: code and links keep theirs, marks and tables lose them."""
    lines = (_LIST_MARK.sub("", line) for line in text.splitlines())
    parts: list[str] = []
    for token in parser.parse("\n".join(lines)):
        if token.type == "inline":
            for child in token.children or ():
                if child.type in ("text", "code_inline"):
                    parts.append(child.content)
                elif child.type in ("softbreak", "hardbreak"):
                    parts.append(" ")
        elif token.type in ("fence", "code_block"):
            parts.append(token.content)
        elif token.type.endswith("_close") and parts and not parts[-1].endswith("\n"):
            parts.append("\n")
    return "".join(parts).strip()


def _numbers(speller: Speller, text: str) -> str:
    """Times, money, ordinals, years, ranges, sums and plain numbers in words."""

    def clock(m: re.Match[str]) -> str:
        minutes = int(m[2])
        tail = "" if minutes == 0 else (" oh " if minutes < 10 else " ")
        spoken = speller.spell(str(minutes), "cardinal") if minutes else " o'clock"
        after = m.string[m.end() :].lstrip().lower()
        if minutes == 0 and after.startswith(("am", "pm", "a.m", "p.m")):
            spoken = ""
        return speller.spell(str(int(m[1])), "cardinal") + tail + spoken

    def money(m: re.Match[str]) -> str:
        whole, part = _MONEY_WORDS[m[1]]
        words = f"{_cardinal(speller, m[2])} {m[4] + ' ' if m[4] else ''}{whole}"
        words += "" if m[2] == "1" and not m[4] else "s"
        cents = int(m[3] or 0)
        plural = {"penny": "pence"}.get(part, part + "s")
        if cents:
            words += f" and {_cardinal(speller, str(cents))} {part if cents == 1 else plural}"
        return words

    text = _TIME.sub(clock, text)
    text = _MONEY.sub(money, text)
    text = _ORDINAL.sub(lambda m: speller.spell(m[1].replace(",", ""), "ordinal"), text)
    text = _RANGE.sub(" to ", text)
    for sign, words in _BETWEEN_NUMBERS:
        text = re.sub(rf"(?<=\d)\s*{re.escape(sign)}\s*(?=\d)", words, text)
    text = _YEAR.sub(lambda m: speller.spell(m[1], "year"), text)
    return _NUMBER.sub(lambda m: _cardinal(speller, m[0]), text)


def _cardinal(speller: Speller, number: str) -> str:
    return speller.spell(number.replace(",", ""), "cardinal")


def _dotted(name: str) -> str:
    return name.replace(".", " dot ").replace("-", " dash ").replace("_", " underscore ")


def _path_words(path: str | None) -> str:
    parts = [p for p in re.split(r"[/?=&%#]+", path or "") if p]
    return "".join(f" slash {_dotted(p)}" for p in parts)


def _is_picture(char: str) -> bool:
    """Emoji and other symbols without a word, and their invisible joiners."""
    return (
        unicodedata.category(char) in ("So", "Sk", "Cf", "Co", "Cs")
        or 0xFE00 <= ord(char) <= 0xFE0F
    )
