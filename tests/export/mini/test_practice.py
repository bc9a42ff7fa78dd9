"""Phrasings that are only trained on: many, and none that gives away what is examined on."""

from __future__ import annotations

import re
import zlib
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from export.mini import intents, practice
from export.mini.bank import Bank, BankPlan, Utterance, _plan
from export.mini.examine import _examined

# Of the phrasings before there were any for practice: shipped figures were measured on these.
_EXAMINED = {"held-out": (1862, 811827971), "validation": (395, 431896623)}


def _said(ask: str) -> str:
    words = re.findall(r"[a-z0-9']+", ask.lower())
    return " ".join(word for word in words if word != "please")


def _sample() -> list[intents.Intent]:
    """Of every kind, with and without tables of their own."""
    others = intents.all_intents()[::60]
    return [*intents.core_intents(), *intents.CONTROLS, *others]


@pytest.mark.parametrize("side", ["held-out", "validation"])
def test_what_is_examined_on_is_what_it_was(side: Literal["held-out", "validation"]) -> None:
    rows = [
        f"{intent.key}|{ask}"
        for intent in (*intents.all_intents(), *intents.CONTROLS)
        for ask in intent.asked(side)
    ]
    assert (len(rows), zlib.crc32("\n".join(rows).encode())) == _EXAMINED[side]


def test_the_split_does_not_know_the_practised_phrasings(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {(i.key, ask): i.split(ask) for i in intents.core_intents() for ask in i.every}
    monkeypatch.setattr(practice, "tables", lambda: {"frames": dict.fromkeys(practice.KINDS, ())})
    assert not any(intent.practised() for intent in intents.core_intents())
    after = {(i.key, ask): i.split(ask) for i in intents.core_intents() for ask in i.every}
    assert before == after


def test_every_core_intent_is_practised_in_many_more_ways() -> None:
    for intent in intents.core_intents():
        made = intent.practised()
        assert len(made) == intents.PRACTISED
        assert len({_said(ask) for ask in made} | {_said(ask) for ask in intent.every}) >= (
            len(made) + len({_said(ask) for ask in intent.every})
        )


def test_nothing_practised_says_or_holds_what_is_examined_on() -> None:
    for intent in _sample():
        trained = [_said(ask) for ask in intent.asked("train")]
        examined = {_said(ask) for ask in (*intent.asked("held-out"), *intent.asked("validation"))}
        for ask in map(_said, intent.practised()):
            assert ask not in examined
            for other in examined:
                if " " in other and f" {other} " in f" {ask} ":
                    held = sum(f" {other} " in f" {one} " for one in trained)
                    assert held > len(trained) / 2


def test_nothing_practised_is_asked_of_another_intent() -> None:
    core = intents.core_intents()
    owners: dict[str, set[str]] = {}
    for intent in core:
        for ask in (*intent.every, *intent.practised()):
            owners.setdefault(_said(ask), set()).add(intent.key)
    assert [ask for ask, keys in owners.items() if len(keys) > 1] == []


def test_an_intent_says_its_own_words() -> None:
    timer = next(intent for intent in intents.core_intents() if intent.key == "timer-5")
    assert all("five" in ask.lower() for ask in timer.practised())
    assert not any("{" in ask for intent in _sample() for ask in intent.practised())


def test_practised_phrasings_are_for_training_and_an_examination_has_none() -> None:
    hello = intents.core_intents()[0]
    plan = BankPlan(voices_per_practice=3)
    rows = [row for row in _plan([hello], plan) if row[0] == "ask"]
    made = set(hello.practised())
    practised = [row for row in rows if row[2] in made]
    assert len(practised) == intents.PRACTISED
    assert {(split, n) for _, _, _, split, n in practised} == {("train", 3)}
    none = replace(plan, voices_per_practice=0)
    assert [row for row in _plan([hello], none) if row[0] == "ask"] == rows[: -len(practised)]
    said = [Utterance("ask", hello.key, row[2], "x", row[3], 0, 1, 0, 1) for row in rows]
    bank = Bank((), tuple(said), np.zeros((8, 1), np.int16))
    assert {u.text for u in _examined(bank, "train")} == set(hello.asked("train"))
