"""Sentences for the codec: plain talk from templates, and word strings for phonetic variety.

No sentence of the conversations is among them, and the held-out ones are never trained on.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from export.mini.numbers import number_words

_WORD_STRINGS = 0.4
_LARGEST_NUMBER = 20


@cache
def _tables() -> dict[str, Any]:
    path = Path(__file__).parent / "configs" / "sentences.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def held_out() -> tuple[str, ...]:
    """Fifty sentences of everyday length and mixed phonetics, for the evaluation only."""
    return tuple(_tables()["held_out"])


def sentence(rng: np.random.Generator) -> str:
    """A training sentence: 60 % from templates, 40 % a string of words."""
    tables = _tables()

    def pick(name: str) -> str:
        return str(rng.choice(tables[name]))

    if rng.random() < _WORD_STRINGS:
        words = rng.choice(tables["words"].split(), int(rng.integers(5, 11)), replace=False)
        return " ".join(words).capitalize() + "."
    numbers = {key: number_words(int(rng.integers(_LARGEST_NUMBER + 1))) for key in "nmk"}
    frame = pick("frames")
    parts = {"a": pick("who"), "b": pick("did"), "c": pick("what"), "d": pick("where")}
    text = frame.format(**parts, **numbers)
    return text[0].upper() + text[1:]
