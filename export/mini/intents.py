"""What a voice appliance is asked, and what the miniature answers: several hundred intents.

An intent is one answer and the ways to ask for it. `split` says which phrasings are held out: they
are asked in the evaluation only; what is `practised` is only trained on. CORE are the intents that
the first stage of training knows.
"""

from __future__ import annotations

import tomllib
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from export.mini import practice
from export.mini.numbers import number_words

Split = Literal["train", "validation", "held-out"]

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "Monday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December", "January",
)  # fmt: skip
_TIMER_MINUTES = (*range(1, 21), 25, 30, 40, 45, 50, 60, 90)
PRACTISED = 56  # phrasings of an intent, at most


@dataclass(frozen=True, slots=True)
class Intent:
    """key: its name. asks: phrasings, without punctuation that is not spoken. reply: the answer.

    topic: what it is about. more: phrasings that came later; their split leaves that of asks alone.
    kinds: of intents whose phrasings for practice are its own too. words: what those leave open.
    """

    key: str
    asks: tuple[str, ...]
    reply: str
    topic: str
    more: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    words: tuple[tuple[str, str], ...] = ()

    def split(self, ask: str) -> Split:
        """Of each list a fifth of the phrasings, at least one of every intent, is held out.

        Of the later ones, those that hold a held-out phrasing of the first list are held out too,
        unless trained ones hold it; those that say what a trained one says, please aside, are
        trained on; and one more is neither trained on nor examined: it tells how training goes.
        """
        first = _ranked(self.key, self.asks)
        n_first = max(1, len(first) // 5)
        held_out, trained = first[:n_first], first[n_first:]
        if ask in first:
            return "held-out" if ask in held_out else "train"
        if any(_plain(ask) == _plain(other) for other in trained):
            return "train"
        ranked = _ranked(self.key, self.more)
        n_more = max(1, len(ranked) // 5)
        if ask in ranked[:n_more] or any(_tells(ask, other, trained) for other in held_out):
            return "held-out"
        return "validation" if ask == ranked[n_more] else "train"

    def asked(self, split: Split) -> tuple[str, ...]:
        """Its phrasings of one side of the split, in their own order."""
        return tuple(ask for ask in self.every if self.split(ask) == split)

    def practised(self) -> tuple[str, ...]:
        """At most PRACTISED further phrasings, for training only: nobody is examined on them.

        What says a phrasing that is held out, or that tells how training goes, is left out, and
        what holds one too, unless it is the subject itself: in most of the trained ones already.
        """
        trained = self.asked("train")
        examined = [*self.asked("held-out"), *self.asked("validation")]
        phrasings = [
            ask for ask in examined if sum(_holds(t, ask) for t in trained) * 2 <= len(trained)
        ]
        seen = {tuple(_plain(ask)) for ask in self.every}
        kept: list[str] = []
        for open_ask in practice.candidates(self.key, self.kinds, self.asks):
            ask = open_ask.format(**dict(self.words))
            ask = ask[0].upper() + ask[1:]
            words = tuple(_plain(ask))
            if words not in seen and not any(_holds(ask, other) for other in phrasings):
                kept.append(ask)
            seen.add(words)
            if len(kept) == PRACTISED:
                break
        return tuple(kept)

    @property
    def every(self) -> tuple[str, ...]:
        """All phrasings that the split is of, the first ones first."""
        return (*self.asks, *self.more)


def _ranked(key: str, asks: Sequence[str]) -> list[str]:
    """In an order that says nothing about them."""
    return sorted(asks, key=lambda text: zlib.crc32(f"{key}|{text}".encode()))


def _plain(ask: str) -> list[str]:
    """Its words without what is said out of politeness."""
    words = "".join(c if c.isalnum() or c == "'" else " " for c in ask.lower()).split()
    return [word for word in words if word != "please"]


def _tells(ask: str, held_out: str, trained: Sequence[str]) -> bool:
    """Whether ask holds a held-out phrasing that no trained one holds."""
    if _plain(ask) == _plain(held_out):
        return True
    return _holds(ask, held_out) and not any(_holds(other, held_out) for other in trained)


def _holds(ask: str, other: str) -> bool:
    """Whether other's words, several of them, are in ask one after the other."""
    whole, part = _plain(ask), _plain(other)
    spans = (whole[i : i + len(part)] for i in range(len(whole) - len(part) + 1))
    return len(part) > 1 and part in spans


# They act on the conversation, not on a table: the conversation maker knows what they mean.
STOP = Intent(
    "stop", ("Stop.", "Stop it.", "Be quiet.", "That is enough.", "Okay, stop.", "Enough."), "", ""
)
AGAIN = Intent(
    "again",
    (
        "Say that again.", "Can you say that again?", "Repeat that, please.", "Say it again.",
        "Can you repeat that?", "What did you say?", "Please say that once more.", "Repeat it.",
    ),
    "",
    "",
)  # fmt: skip
RECALL = Intent(
    "recall",
    (
        "What did I just say?", "What did I just ask?", "What was my question?",
        "Tell me what I just said.", "What did I ask you?", "What did I say before?",
        "Do you know what I just said?", "What have I just said?",
    ),
    "",
    "",
)  # fmt: skip
CONTROLS = (STOP, AGAIN, RECALL)
BACK_CHANNELS = ("Uh huh.", "Okay.", "Right.", "I see.", "Yes.", "Mm.")

CORE = (
    "hello", "how-are-you", "name", "thanks", "goodbye", "joke", "volume-up", "volume-down",
    "music-on", "lights-on", "lights-off", "capital-France", "capital-Japan", "capital-Italy",
    "plus-2-2", "times-3-3", "fact-0", "fact-3", "timer-5", "timer-10",
)  # fmt: skip

# The second stage: all small talk and commands, and what each of the other kinds begins with.
_HOME_FACTS = (*range(6), *range(12, 29))
_HOME_TIMERS = (1, 2, 3, 5, 10, 15, 20, 30)
_HOME_SUMS = ("plus-1-1", "plus-2-2", "plus-3-3", "plus-5-5", "times-2-5", "times-3-3")
_HOME_CAPITALS = 20


@cache
def _tables() -> dict[str, Any]:
    path = Path(__file__).parent / "configs" / "intents.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


@cache
def _more() -> dict[str, tuple[str, ...]]:
    """Later phrasings by intent or kind of intent."""
    path = Path(__file__).parent / "configs" / "more_asks.toml"
    return {key: tuple(asks) for key, asks in tomllib.loads(path.read_text("utf-8")).items()}


def all_intents() -> tuple[Intent, ...]:
    """Every intent of the table, in a fixed order; keys are unique."""
    return (*_talk(), *_capitals(), *_facts(), *_timers(), *_calendar(), *_arithmetic())


def core_intents() -> tuple[Intent, ...]:
    """The intents of the first stage."""
    return tuple(intent for intent in all_intents() if intent.key in CORE)


def home_intents() -> tuple[Intent, ...]:
    """The intents of the second stage: about a hundred."""
    capitals = tuple(intent.key for intent in _capitals())[:_HOME_CAPITALS]
    days = tuple(f"after-{day}" for day in _DAYS[:-1])
    timers = tuple(f"timer-{minutes}" for minutes in _HOME_TIMERS)
    facts = tuple(f"fact-{number}" for number in _HOME_FACTS)
    talk = tuple(intent.key for intent in _talk())
    wanted = {*CORE, *talk, *capitals, *facts, *timers, *days, *_HOME_SUMS}
    return tuple(intent for intent in all_intents() if intent.key in wanted)


def recalled(intent: Intent) -> str:
    """What the assistant says when it is asked what the user just said."""
    return f"You said, {intent.asked('train')[0]}"


def _make(
    names: tuple[str, ...],
    asks: Sequence[str],
    reply: str,
    topic: str,
    more: Sequence[str] = (),
    **words: str,
) -> Intent:
    """names: the intent's, then those of its kinds."""
    spoken, later = (tuple(ask.format(**words) for ask in group) for group in (asks, more))
    key, *kinds = names
    reply, topic, left_open = reply.format(**words), topic.format(**words), tuple(words.items())
    return Intent(key, spoken, reply, topic, later, tuple(kinds), left_open)


def _talk() -> Iterator[Intent]:
    for row in _tables()["talk"]:
        topic = row["key"].replace("-", " ")
        more = _more().get(row["key"], ())
        yield Intent(row["key"], tuple(row["asks"]), row["reply"], topic, more)


def _capitals() -> Iterator[Intent]:
    asks = _tables()["capital_asks"]
    for country, city in _tables()["capitals"]:
        names = (f"capital-{country.replace(' ', '-')}", "capital")
        topic, more = "the capital of {a}", _more()["capital"]
        yield _make(names, asks, "{b}.", topic, more, a=country, b=city)


def _facts() -> Iterator[Intent]:
    for number, row in enumerate(_tables()["fact"]):
        plain = row["asks"][0].rstrip("?.")
        kind = (f"Can you tell me, {plain[0].lower()}{plain[1:]}?", f"Please, {plain.lower()}?")
        key, topic = f"fact-{number}", f"the {row['topic']}"
        yield Intent(key, (*row["asks"], *kind), row["reply"], topic, _more().get(key, ()))


def _timers() -> Iterator[Intent]:
    for minutes in _TIMER_MINUTES:
        words = {"n": number_words(minutes), "m": "minute" if minutes == 1 else "minutes"}
        asks, names = _tables()["timer_asks"], (f"timer-{minutes}", "timer")
        reply, more = "Timer set for {n} {m}.", _more()["timer"]
        yield _make(names, asks, reply, "a timer", more, **words)


def _calendar() -> Iterator[Intent]:
    after, before = _tables()["after_asks"], _tables()["before_asks"]
    for kind, names in (("day", _DAYS), ("month", _MONTHS)):
        for a, b in pairwise(names):
            words = {"a": a, "b": b, "k": kind}
            yield _make((f"after-{a}",), after, "{b}.", "the {k} after {a}", **words)
            yield _make((f"before-{b}",), before, "{a}.", "the {k} before {b}", **words)


def _arithmetic() -> Iterator[Intent]:
    kinds: tuple[tuple[str, Callable[[int, int], int]], ...] = (
        ("plus", lambda a, b: a + b),
        ("minus", lambda a, b: a - b),
        ("times", lambda a, b: a * b),
    )
    for name, result in kinds:
        asks = [*_tables()["arithmetic_asks"], *_tables()["more_arithmetic_asks"][name]]
        more = [*_more()["arithmetic"], *_more()[name]]
        for a in range(1, 13):
            for b in range(1, 13):
                if (name == "minus" and b >= a) or (name == "times" and 1 in (a, b)):
                    continue
                words = {"a": number_words(a), "b": number_words(b), "o": name}
                reply = f"{number_words(result(a, b)).capitalize()}."
                topic = f"{words['a']} {name} {words['b']}"
                names = (f"{name}-{a}-{b}", "arithmetic", name)
                yield _make(names, asks, reply, topic, more, **words)
