"""The last guard against hearing oneself: a transcript that the assistant has just said."""

from __future__ import annotations

import re
from collections.abc import Sequence

# "Yes" and "all right" are anybody's words; three in a row seldom are.
_LEAST_WORDS = 3
_OWN_PART = 0.6
_WRONG_COST = 0.5  # of a word that does not fit, in the middle of some that do


def own_words(transcript: str, spoken_recently: str) -> bool:
    """Whether most of the transcript is a run of what the assistant has just said.

    transcript: what was recognised. spoken_recently: the words played in the last seconds, also of
    a reply that was broken off. A run may have a wrong or a missing word here and there, as a
    recogniser hears an echo. Fewer than three words are taken for the user's: "yes" and "stop" must
    always be heard.
    """
    heard, spoken = _words(transcript), _words(spoken_recently)
    if len(heard) < _LEAST_WORDS:
        return False
    return _best_run(heard, spoken) >= _OWN_PART * len(heard)


def _best_run(heard: Sequence[str], spoken: Sequence[str]) -> float:
    """Words in common of the best matching stretch, less a half for each that does not fit."""
    best = 0.0
    above = [0.0] * (len(spoken) + 1)
    for word in heard:
        row = [0.0]
        for index, own in enumerate(spoken):
            fit = above[index] + (1.0 if word == own else -_WRONG_COST)
            row.append(max(0.0, fit, above[index + 1] - _WRONG_COST, row[index] - _WRONG_COST))
        best = max(best, *row)
        above = row
    return best


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)?", text.lower().replace("’", "'"))
