"""A bank grows: what is there is not said again, and every part finds its sound."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from edge.errors import UsageError
from edge.frame import FRAME_SAMPLES
from export.mini import intents
from export.mini.bank import (
    BankPlan,
    Said,
    Utterance,
    _missing,
    open_bank,
    open_sound,
)

PLAN = BankPlan(voices_per_ask=2, voices_per_control=1, back_channel_voices=1)
SOME = intents.core_intents()[:3]


def _after(plan: BankPlan, said: Said) -> Said:
    """What has been said once everything that is missing is there."""
    made = {place: set(who) for place, who in said.items()}
    for kind, key, text, who, split in _missing(SOME, plan, said):
        made.setdefault((kind, key, text, split), set()).add(who.name if who else "assistant")
    return made


def test_nothing_is_said_twice() -> None:
    said = _after(PLAN, {})
    assert said
    assert _missing(SOME, PLAN, said) == []


def test_a_larger_plan_brings_new_voices_only() -> None:
    said = _after(PLAN, {})
    more = _missing(SOME, replace(PLAN, voices_per_ask=4), said)
    assert more
    for kind, key, text, who, split in more:
        assert (kind, split) == ("ask", "train")
        assert who is not None
        assert who.name not in said[kind, key, text, split]


def test_held_out_voices_and_phrasings_stay_out_of_training() -> None:
    by_key = {intent.key: intent for intent in SOME}
    for kind, key, text, who, split in _missing(SOME, PLAN, {}):
        if kind != "ask":
            continue
        assert who is not None
        assert who.held_out == ("voice" in split)
        side = by_key[key].split(text)
        assert side == {"train": "train", "new voice": "train", "validation": "validation"}.get(
            split, "held-out"
        )


def _write_part(folder: Path, texts: list[tuple[str, int]], level: int) -> None:
    """A part with an utterance of n frames for every (text, n), in samples of one level."""
    folder.mkdir(parents=True)
    rows, first = [], 0
    for text, n in texts:
        rows.append(asdict(Utterance("ask", "name", text, "somebody", "train", first, n, 0, n)))
        first += n
    np.save(folder / "audio.npy", np.full(first * FRAME_SAMPLES, level, np.int16))
    (folder / "utterances.json").write_text(json.dumps(rows), encoding="utf-8")


def test_parts_are_one_bank_and_only_new_parts_are_encoded(tmp_path: Path) -> None:
    bank, calls = tmp_path / "bank", []

    def encode(pcm: np.ndarray) -> np.ndarray:
        calls.append(len(pcm))
        level = round(float(pcm[0]) * 32767)
        return np.full((8, len(pcm) // FRAME_SAMPLES), level)

    _write_part(bank, [("one", 3), ("two", 2)], 5)
    first = open_bank(bank, "codec", encode, lambda _a, _b: None)
    assert len(calls) == 2
    _write_part(bank / "part-000", [("three", 4)], 9)
    whole = open_bank(bank, "codec", encode, lambda _a, _b: None)
    assert len(calls) == 3
    assert [u.text for u in whole.utterances] == ["one", "two", "three"]
    assert np.array_equal(whole.codes[:, :5], first.codes)
    for utterance, level in zip(whole.utterances, (5, 5, 9), strict=True):
        assert set(whole.audio_of(utterance)) == {level}
        assert whole.audio_of(utterance).shape == (utterance.n_frames * FRAME_SAMPLES,)
        assert set(whole.codes_of(utterance).ravel()) == {level}


def test_sound_beyond_the_bank_is_refused(tmp_path: Path) -> None:
    _write_part(tmp_path / "bank" / "part-000", [("one", 3)], 5)
    bank = open_sound(tmp_path / "bank")
    with pytest.raises(UsageError, match="no sound"):
        bank.audio_of(replace(bank.utterances[0], first_frame=3))
