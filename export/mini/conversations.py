"""Two-channel conversations put together from the bank, frame by frame, as the model sees them.

Each channel is a row of codes, so both may sound at once: users interrupt, agree while the
assistant speaks, pause, or say nothing in a quiet or a noisy room. A conversation is made from its
seed alone. The assistant's silence is what the codec makes of zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge.frame import FRAME_SAMPLES
from export.mini.bank import Bank, Encode, Utterance
from export.mini.text_pieces import PADDING, laid_over

Codes = NDArray[np.int64]

_N = 8
_SILENT_FRAMES = 40
_EXAM_STARTS = 2


@dataclass(frozen=True, slots=True)
class Manners:
    """How conversations go; shares are probabilities, the rest are frames of 80 ms.

    answer_after: from the last frame with the user's words to the reply's first. yields_after:
    from the first frame of an interruption to the assistant's silence. again: how often a user
    wants a reply repeated; recalled: how often, where the assistant knows how to say it, to hear
    what they asked.
    """

    answer_after: tuple[int, int] = (3, 4)
    pause: tuple[int, int] = (6, 25)
    first_pause: tuple[int, int] = (2, 20)
    yields_after: int = 3
    interrupted: float = 0.15
    agreed: float = 0.1
    stopped: float = 0.05
    again: float = 0.2
    recalled: float = 0.2
    empty: float = 0.06
    noisy_room: float = 0.3


@dataclass(frozen=True, slots=True)
class Conversation:
    """tokens: int64 (17, frames) aligned: text, own codes, user codes. heard: int64 (frames,), the
    user's words as text tokens where they have just been said (-1 elsewhere), a teacher's hint.
    speaks: bool (frames,), whether the assistant's voice sounds. turns: (asked, frame of the
    user's last word, frame of the reply's first).
    """

    tokens: Codes
    heard: Codes
    speaks: NDArray[np.bool_]
    turns: tuple[tuple[Utterance, int, int], ...]


class Maker:
    """Makes conversations of a bank."""

    def __init__(
        self, bank: Bank, pieces: object, encode: Encode, manners: Manners | None = None
    ) -> None:
        self.bank, self.manners = bank, manners or Manners()
        silent = encode(np.zeros(_SILENT_FRAMES * FRAME_SAMPLES, np.float32))
        self._silence = silent[:, -1:]
        self._starts = silent[:, :_SILENT_FRAMES]
        self._pieces = pieces
        self._replies = {u.key: u for u in bank.of("reply")}
        self._asks = bank.of("ask", "train")
        self._recalls = {u.key: u for u in bank.of("recall")}
        self._controls = bank.of("control", "train")
        self._agrees = bank.of("back-channel")
        self._noises = bank.of("noise", "train")

    def make(self, seed: Sequence[int], n_frames: int, keys: Sequence[str] = ()) -> Conversation:
        """One conversation of exactly n_frames. keys: only these intents, () for all."""
        rng = np.random.default_rng(seed)
        draft = _Draft(self, rng, n_frames, self.manners)
        asks = [u for u in self._asks if u.key in keys] if keys else self._asks
        manners = self.manners
        now = int(rng.integers(*manners.first_pause))
        if rng.random() < manners.empty:
            return draft.done()
        while now < n_frames:
            ask = asks[int(rng.integers(len(asks)))]
            now = draft.exchange(ask, now)
            now += int(rng.integers(*manners.pause))
        return draft.done()

    def exam(self, ask: Utterance, n_frames: int) -> Conversation:
        """One question in a quiet room and its answer, without anything else."""
        plain = replace(
            self.manners, interrupted=0.0, agreed=0.0, again=0.0, recalled=0.0, noisy_room=0.0
        )
        draft = _Draft(self, np.random.default_rng(0), n_frames, plain)
        draft.exchange(ask, _EXAM_STARTS)
        return draft.done()

    def reply(self, key: str) -> Utterance:
        """What the assistant says to an intent."""
        return self._replies[key]

    def recall(self, key: str) -> Utterance | None:
        """What the assistant says when asked what the user said, where it knows how to."""
        return self._recalls.get(key)

    def any_of(self, kind: str, rng: np.random.Generator) -> Utterance | None:
        """A random control ("stop", "again", "recall"), back-channel ("agree") or noise.

        Of the training split; None where the bank has none.
        """
        group = {"agree": self._agrees, "noise": self._noises}.get(kind)
        if group is None:
            group = [u for u in self._controls if u.key == kind]
        return group[int(rng.integers(len(group)))] if group else None

    def silence(self, n: int) -> Codes:
        """What the codec makes of so many frames of zeros: its start, then its steady code."""
        steady = np.repeat(self._silence, max(0, n - _SILENT_FRAMES), 1)
        return np.concatenate([self._starts, steady], 1)[:, :n].astype(np.int64)

    def laid(self, utterance: Utterance, n_frames: int) -> list[int]:
        """The words of an utterance, one token a frame."""
        return laid_over(self._pieces, utterance.text, n_frames)  # type: ignore[arg-type]


class _Draft:
    """A conversation while it is made."""

    def __init__(
        self, maker: Maker, rng: np.random.Generator, n_frames: int, manners: Manners
    ) -> None:
        self.maker, self.rng, self.n, self.manners = maker, rng, n_frames, manners
        quiet = maker.silence(n_frames)
        self.text = np.full(n_frames, PADDING, np.int64)
        self.own, self.user = quiet.copy(), quiet.copy()
        self.heard = np.full(n_frames, -1, np.int64)
        self.speaks = np.zeros(n_frames, bool)
        self.turns: list[tuple[Utterance, int, int]] = []
        if rng.random() < manners.noisy_room:
            self._fill_with_noise()

    def exchange(self, ask: Utterance, now: int) -> int:
        """A question from frame `now` on and its answer; returns the frame where both are over."""
        manners, rng = self.manners, self.rng
        ended = self.says(ask, now)
        start = ended + int(rng.integers(manners.answer_after[0], manners.answer_after[1] + 1))
        reply = self.maker.reply(ask.key)
        self.turns.append((ask, ended, start))
        length = reply.last_word
        chance = rng.random()
        if length > 8 and chance < manners.interrupted:
            cut = int(rng.integers(4, length - 2))
            word = self.maker.any_of("stop", rng) if rng.random() < manners.stopped else None
            self.answers(reply, start, cut + manners.yields_after)
            if word is not None:
                return self.says(word, start + cut - word.first_word)
            asks = self.maker.bank.of("ask", "train")
            other = asks[int(rng.integers(len(asks)))]
            return self.exchange(other, max(ended, start + cut - other.first_word))
        if length > 6 and chance < manners.interrupted + manners.agreed:
            word = self.maker.any_of("agree", rng)
            if word is not None:
                self.says(word, start + int(rng.integers(1, length - 3)))
        self.answers(reply, start, reply.n_frames)
        return self.follows_up(ask.key, max(ended, start + length))

    def follows_up(self, key: str, now: int) -> int:
        """At times: "say that again" or "what did I just say", and the answer to it."""
        manners, rng = self.manners, self.rng
        recall, chance = self.maker.recall(key), rng.random()
        reply = self.maker.reply(key)
        if recall is not None and chance < manners.recalled:
            word, reply = self.maker.any_of("recall", rng), recall
        elif chance > 1 - manners.again:
            word = self.maker.any_of("again", rng)
        else:
            return now
        if word is None:
            return now
        ended = self.says(word, now + int(rng.integers(*manners.pause)))
        start = ended + int(rng.integers(manners.answer_after[0], manners.answer_after[1] + 1))
        self.turns.append((word, ended, start))
        self.answers(reply, start, reply.n_frames)
        return start + reply.last_word

    def says(self, u: Utterance, at: int) -> int:
        """The user's channel from frame `at`; returns the frame after the last word."""
        self._put(self.user, self.maker.bank.codes_of(u), at)
        row = self.maker.laid(u, u.last_word - u.first_word)
        for place, token in enumerate(row):
            frame = at + u.first_word + place + 3  # words are known when they have been said
            if token not in (0, PADDING) and frame < self.n:
                self.heard[frame] = token
        return at + u.last_word

    def answers(self, u: Utterance, at: int, n_frames: int) -> None:
        """The assistant's channel and text from frame `at`, cut after n_frames."""
        codes = self.maker.bank.codes_of(u)[:, :n_frames]
        self._put(self.own, codes, at)
        row = self.maker.laid(u, u.last_word)[:n_frames]
        last = min(self.n, at + len(row))
        if at < self.n:
            self.text[at:last] = row[: last - at]
            self.speaks[at : min(self.n, at + codes.shape[1])] = True

    def done(self) -> Conversation:
        """The finished conversation."""
        tokens = np.concatenate([self.text[None], self.own, self.user])
        turns = tuple(turn for turn in self.turns if turn[2] < self.n)
        return Conversation(tokens, self.heard, self.speaks, turns)

    def _put(self, channel: Codes, codes: NDArray[np.int16], at: int) -> None:
        last = min(self.n, at + codes.shape[1])
        if at < last:
            channel[:, at:last] = codes[:, : last - at]

    def _fill_with_noise(self) -> None:
        at = 0
        while at < self.n:
            noise = self.maker.any_of("noise", self.rng)
            if noise is None:
                return
            self._put(self.user, self.maker.bank.codes_of(noise), at)
            at += noise.n_frames
