"""What the language model is shown: who it is, and as much of the conversation as fits a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from runtime.engines.engine import Context

Message = Mapping[str, str]

# Of a longer turn the language model is shown the end, two minutes of speech.
_MOST_WORDS = 300


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange.

    user: what was recognised. reply: what was really heard, "" if nothing was. n_tokens: what it
    costs in the language model's context, counted once when it is remembered.
    """

    user: str
    reply: str
    n_tokens: int = 0

    def said(self) -> list[Message]:
        """The exchange as chat messages."""
        return _exchange(self.user, self.reply)


@dataclass(frozen=True, slots=True)
class Conversation:
    """The turns so far, oldest first; a value that grows by with_turn()."""

    context: Context
    turns: tuple[Turn, ...] = ()
    n_opening_tokens: int = 0

    @property
    def n_tokens(self) -> int:
        """What everything costs, the opening (prompt and examples) included."""
        return self.n_opening_tokens + sum(turn.n_tokens for turn in self.turns)

    def with_turn(self, turn: Turn) -> Conversation:
        """The conversation with one more exchange."""
        return replace(self, turns=(*self.turns, turn))

    def without_last(self) -> Conversation:
        """The conversation before its last exchange."""
        return replace(self, turns=self.turns[:-1])


def messages(conversation: Conversation, user: str) -> tuple[Message, ...]:
    """Chat messages for a reply to user: prompt, examples, turns, then what was just said.

    Of a monologue only the last 300 words.
    """
    out: list[Message] = []
    if conversation.context.prompt:
        out.append({"role": "system", "content": conversation.context.prompt})
    for example in conversation.context.examples:
        out += _exchange(example.user, example.reply)
    for turn in conversation.turns:
        out += turn.said()
    out.append({"role": "user", "content": " ".join(user.split()[-_MOST_WORDS:])})
    return tuple(out)


def fit(conversation: Conversation, budget_tokens: int) -> Conversation:
    """Drop the oldest turns until the conversation costs at most budget_tokens.

    A quarter more than needed is dropped at once, so that this does not happen in every turn. The
    prompt and its examples always stay.
    """
    if conversation.n_tokens <= budget_tokens:
        return conversation
    fitted = conversation
    while fitted.turns and fitted.n_tokens > budget_tokens * 3 // 4:
        fitted = replace(fitted, turns=fitted.turns[1:])
    return fitted


def heard_part(clauses: Sequence[tuple[str, int, int]]) -> str:
    """The words that were really played.

    clauses: (text, samples played, samples in all) in order. A clause cut in the middle keeps the
    words whose share of its length was played; the voice speaks at a nearly even pace.
    """
    out: list[str] = []
    for text, n_played, n_all in clauses:
        words = text.split()
        if n_played >= n_all:
            out += words
            continue
        out += words[: round(len(words) * n_played / max(1, n_all))]
        break
    return " ".join(out)


def _exchange(user: str, reply: str) -> list[Message]:
    said = [{"role": "user", "content": user}]
    if reply:
        said.append({"role": "assistant", "content": reply})
    return list(said)
