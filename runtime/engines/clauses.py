"""Cuts a language model's stream into clauses to be spoken while the rest is still written."""

from __future__ import annotations

import re
from dataclasses import dataclass

# A sentence ends at . ! ? (with quotes or brackets) before white space, or at a line break. Not
# after an initial, a title or a number ("Dr. Smith", "3.5", "1. First").
_SENTENCE = re.compile(r"[.!?…]+[\"')\]”’]*\s+|\n+")
_MARK = re.compile(r"[.!?…]$")
_SOFT = re.compile(r"[,;:—]\s+")
_NOT_AN_END = re.compile(
    r"(\b(Mr|Mrs|Ms|Dr|Prof|St|vs|etc|e\.g|i\.e|No)|\b[A-Z]|(^|\s)\d+)\.\s+$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class ClauseRules:
    """When a clause is long enough to be spoken.

    first_words: words after which the first clause may end at a comma, so that the voice starts
    early. later_words: the same for all others, which may wait for better prosody.
    """

    first_words: int = 4
    later_words: int = 10


@dataclass(frozen=True, slots=True)
class ClauseState:
    """What has been written but not yet cut off, and how many clauses have been."""

    rest: str = ""
    n_clauses: int = 0


def push(rules: ClauseRules, state: ClauseState, text: str) -> tuple[ClauseState, tuple[str, ...]]:
    """Add a piece of text; returns the clauses that are complete now, stripped and not empty.

    The first sentence ends at its mark, without waiting for the next piece to show that it does.
    """
    rest, n, out = state.rest + text, state.n_clauses, []
    while (end := _clause_end(rules, rest, first=n == 0)) is not None:
        clause, rest = rest[:end].strip(), rest[end:]
        if clause:
            out.append(clause)
            n += 1
    if n == 0 and _MARK.search(rest) and not _NOT_AN_END.search(rest + " "):
        out.append(rest.strip())
        rest, n = "", 1
    return ClauseState(rest, n), tuple(out)


def finish(state: ClauseState) -> tuple[str, ...]:
    """The last clause, when the stream has ended."""
    clause = state.rest.strip()
    return (clause,) if clause else ()


def _clause_end(rules: ClauseRules, text: str, *, first: bool) -> int | None:
    """Where the first complete clause of text ends, or None."""
    for match in _SENTENCE.finditer(text):
        if "\n" in match.group() or not _NOT_AN_END.search(text[: match.end()]):
            sentence_end: int | None = match.end()
            break
    else:
        sentence_end = None
    enough = rules.first_words if first else rules.later_words
    for match in _SOFT.finditer(text, 0, sentence_end or len(text)):
        if len(text[: match.start()].split()) >= enough:
            return match.end()
    return sentence_end
