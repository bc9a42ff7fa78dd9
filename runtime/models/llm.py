"""The language model's role: chat messages in, words out; the KV cache of what is shared stays."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.backends.llama import ContextOptions, LlamaContext, LlamaModel

# So many tokens in a row are taken for the same place in a conversation.
_RECOGNISED_TOKENS = 24

Message = Mapping[str, str]
Messages = Sequence[Message]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen.

    temperature: 0 takes the likeliest. top_k: candidates considered above temperature 0.
    repeat_penalty: divides the score of tokens used in the last 64; 1 is none.
    max_tokens: a reply never gets longer.
    """

    temperature: float = 0.0
    top_k: int = 40
    repeat_penalty: float = 1.1
    max_tokens: int = 96


@dataclass(slots=True)
class ChatState:
    """One conversation's cache: the library's handle and the tokens it holds, in order.

    logits: float32 (n_vocab,) after the last of them, if they are known already.
    """

    context: LlamaContext
    random: np.random.Generator
    tokens: list[int] = field(default_factory=list)
    logits: NDArray[np.float32] | None = None


class ChatModel:
    """A GGUF chat model; the weights are shared, each conversation has its ChatState."""

    def __init__(self, gguf: Path, *, n_ctx: int, threads: int = 1, n_gpu_layers: int = 0) -> None:
        """Raises ModelDamagedError where llama.cpp refuses the file."""
        self._model = LlamaModel(gguf, n_gpu_layers=n_gpu_layers)
        self._render = self._model.chat_renderer()
        self._options = ContextOptions(n_ctx=n_ctx, n_batch=min(n_ctx, 128), threads=threads)
        self.n_ctx = n_ctx
        self._end_marks = self._find_end_marks()
        self._opening: tuple[tuple[int, ...], bytes] = ((), b"")

    def start(self, *, seed: int, opening: Messages = ()) -> ChatState:
        """A new conversation whose cache already holds its opening messages.

        The opening is evaluated once and copied from then on: the second conversation with the
        same prompt begins at once.
        """
        state = ChatState(self._model.context(self._options), np.random.default_rng(seed))
        if opening:
            tokens = self._before_end(opening, self._prompt(opening))
            if self._opening[0] != tuple(tokens):
                self._advance(state, tokens)
                self._opening = tuple(tokens), state.context.save()
            else:
                state.context.load(self._opening[1])
                state.tokens = tokens
        return state

    def count_tokens(self, messages: Messages) -> int:
        """Positions that messages take, with the opening of a reply."""
        return len(self._prompt(messages))

    def prefill(self, state: ChatState, messages: Messages, *, open_turn: bool = False) -> int:
        """Bring the cache up to messages; what it shares with them is kept.

        open_turn: the last message is still being written, so its end is not evaluated.
        Returns the number of tokens evaluated.
        """
        tokens = self._prompt(messages)
        if open_turn:
            tokens = self._before_end(messages, tokens)
        _, n_new = self._advance(state, tokens)
        return n_new

    def completeness(self, state: ChatState, messages: Messages) -> float:
        """Probability (0..1) that the last message is a whole one: that it may end where it ends.

        "Please tell me the" is near 0, "What do bees make" above 0.1. Whatever mark the recogniser
        put at its end is not believed. The cache is brought up to where a reply begins in the same
        pass, so a reply follows for next to nothing.
        """
        said = {**messages[-1], "content": messages[-1]["content"].rstrip(" .,?!;:-")}
        open_end = [*messages[:-1], said]
        tokens = self._before_end(open_end, self._prompt(open_end), n_unsure=0)
        whole = self._prompt(messages)
        if tokens and _n_shared(tokens, whole) == len(tokens):
            logits = self._advance_past(state, whole, len(tokens) - 1)
        else:
            logits, _ = self._advance(state, tokens)
        if not logits.size:
            return 0.0
        weights = np.exp(logits - logits.max())
        return float(weights[self._end_marks].sum() / weights.sum())

    def reply(
        self,
        state: ChatState,
        messages: Messages,
        sampling: Sampling,
        *,
        wanted: Callable[[], bool] = lambda: True,
    ) -> Iterator[str]:
        """Write a reply to messages piece by piece; stops early once wanted() is false.

        Between two pieces the caller may do as it likes: nothing computes then.
        """
        tokens = self._prompt(messages)
        if state.logits is not None and state.tokens == tokens:
            logits = state.logits
        else:
            logits, _ = self._advance(state, tokens)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        written: list[int] = []
        room = min(sampling.max_tokens, self.n_ctx - len(state.tokens) - 1)
        while len(written) < room and wanted():
            token = choose(logits, written, sampling, state.random)
            if self._model.ends_turn(token):
                break
            written.append(token)
            if piece := decoder.decode(self._model.piece(token)):
                yield piece
            state.logits = None
            logits = state.context.decode_tokens([token], len(state.tokens))
            state.tokens.append(token)
        if tail := decoder.decode(b"", True):
            yield tail

    def use_cores(self, state: ChatState, n_cores: int) -> None:
        """Compute with so many threads from the next call on; they must be free."""
        state.context.use_threads(n_cores)

    def finish(self, state: ChatState) -> None:
        """Free a conversation's cache."""
        state.context.close()

    def close(self) -> None:
        """Free the weights."""
        self._model.close()

    def _prompt(self, messages: Messages) -> list[int]:
        return self._model.tokenize(self._render(messages), special=True)

    def _before_end(self, messages: Messages, tokens: list[int], *, n_unsure: int = 1) -> list[int]:
        """The tokens up to where the last message's text ends, less some that may still change."""
        longer = [*messages[:-1], {**messages[-1], "content": messages[-1]["content"] + " so"}]
        return tokens[: max(0, _n_shared(tokens, self._prompt(longer)) - n_unsure)]

    def _find_end_marks(self) -> NDArray[np.int64]:
        """The tokens that end a sentence or a message."""
        texts = ("?", ".", "!", "\n", '?"', '."', "?!", "...", "?\n", ".\n")
        found = {t[0] for t in map(self._model.tokenize, texts) if len(t) == 1}
        found |= {t for t in range(self._model.n_vocab) if self._model.ends_turn(t)}
        return np.array(sorted(found), np.int64)

    def _advance(self, state: ChatState, tokens: list[int]) -> tuple[NDArray[np.float32], int]:
        """Evaluate what the cache does not hold yet; at least the last token, for its logits."""
        new, n_kept = self._cut_to(state, tokens, len(tokens) - 1)
        if not new:
            return np.empty(0, np.float32), 0
        logits = state.context.decode_tokens(new, n_kept)
        state.tokens.extend(new)
        return logits, len(new)

    def _advance_past(self, state: ChatState, tokens: list[int], at: int) -> NDArray[np.float32]:
        """Evaluate all tokens; the logits after token `at`. Those after the last are kept too."""
        new, n_kept = self._cut_to(state, tokens, at)
        logits, last = state.context.decode_tokens_at(new, n_kept, at - n_kept)
        state.tokens.extend(new)
        state.logits = last
        return logits

    def _cut_to(self, state: ChatState, tokens: list[int], most: int) -> tuple[list[int], int]:
        """Cut the cache to what it shares with tokens, `most` at most; what is new, from where."""
        _drop_block(state, tokens)
        n_kept = min(_n_shared(state.tokens, tokens), max(0, most))
        state.context.forget(n_kept)
        del state.tokens[n_kept:]
        state.logits = None
        return tokens[n_kept:], n_kept


def choose(
    logits: NDArray[np.float32],
    written: Sequence[int],
    sampling: Sampling,
    random: np.random.Generator,
) -> int:
    """Pick a token from logits float32 (n_vocab,); logits are not changed."""
    if sampling.repeat_penalty != 1.0 and written:
        recent = np.unique(np.asarray(written[-64:]))
        logits = logits.copy()
        chosen = logits[recent]
        penalty = sampling.repeat_penalty
        logits[recent] = np.where(chosen > 0, chosen / penalty, chosen * penalty)
    if sampling.temperature <= 0:
        return int(logits.argmax())
    best = np.argpartition(logits, -sampling.top_k)[-sampling.top_k :]
    scores = logits[best].astype(np.float64) / sampling.temperature
    weights = np.exp(scores - scores.max())
    return int(random.choice(best, p=weights / weights.sum()))


def _drop_block(state: ChatState, tokens: Sequence[int]) -> None:
    """If tokens are the cached ones less a block (forgotten turns), cut it out of the cache.

    What follows the block moves up, which costs one pass over the cache instead of evaluating the
    rest of the conversation again, seconds of work for the starter model on one core.
    """
    held, n_same = state.tokens, _n_shared(state.tokens, tokens)
    after = list(tokens[n_same : n_same + _RECOGNISED_TOKENS])
    if len(after) < _RECOGNISED_TOKENS:
        return
    for start in range(n_same + 1, len(held) - _RECOGNISED_TOKENS + 1):
        if held[start : start + _RECOGNISED_TOKENS] == after:
            state.context.forget(n_same, start)
            state.context.shift(start, -1, n_same - start)
            del held[n_same:start]
            return


def _n_shared(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common beginning."""
    n = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        n += 1
    return n
