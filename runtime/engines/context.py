"""What the language model is shown: who it is, and as much of the conversation as fits a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from runtime.engines.engine import Context

Message = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange. user: what was recognised. reply: what was really heard, "" if nothing was."""

    user: str
    reply: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """The turns so far, oldest first; a value that grows by with_turn()."""

    context: Context
    turns: tuple[Turn, ...] = ()

    def with_turn(self, turn: Turn) -> Conversation:
        """The conversation with one more exchange."""
        return replace(self, turns=(*self.turns, turn))

    def without_last(self) -> Conversation:
        """The conversation before its last exchange."""
        return replace(self, turns=self.turns[:-1])


def messages(conversation: Conversation, user: str) -> tuple[Message, ...]:
    """Chat messages for a reply to user: prompt, examples, turns, then what was just said."""
    out: list[Message] = []
    if conversation.context.prompt:
        out.append({"role": "system", "content": conversation.context.prompt})
    for example in conversation.context.examples:
        out += _exchange(example.user, example.reply)
    for turn in conversation.turns:
        out += _exchange(turn.user, turn.reply)
    out.append({"role": "user", "content": user})
    return tuple(out)


def fit(
    conversation: Conversation, budget_tokens: int, count: Callable[[Sequence[Message]], int]
) -> Conversation:
    """Drop the oldest turns until the messages take at most budget_tokens.

    A quarter more than needed is dropped at once, so that the cached prefix survives many turns
    instead of changing with every one. The prompt and its examples always stay.
    """
    if count(messages(conversation, "")) <= budget_tokens:
        return conversation
    turns = conversation.turns
    while (
        turns and count(messages(replace(conversation, turns=turns), "")) > budget_tokens * 3 // 4
    ):
        turns = turns[1:]
    return replace(conversation, turns=turns)


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
