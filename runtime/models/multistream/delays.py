"""The delay lines of a multistream model: which token each stream feeds in, and when one is out.

Pure logic on small integers; no weights, no clock. A position is one step of the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.errors import ShapeError

Int64 = NDArray[np.int64]

ZERO_TOKEN = -1  # contributes nothing to the input
UNGENERATED = -2  # must never reach the model


@dataclass(frozen=True, slots=True)
class StreamLayout:
    """Which streams there are: text, then the model's own, then the user's.

    delays: of each of them, in frames. n_own: streams that the model speaks. n_written: codes its
    depth transformer writes; what goes beyond n_own is a guess at the user's streams and is not
    fed back. card, text_card: number of codes and of text tokens; one above is the start token.
    """

    delays: tuple[int, ...]
    n_own: int
    n_written: int
    card: int
    text_card: int

    @property
    def n_streams(self) -> int:
        """Streams that are input, text among them."""
        return len(self.delays)

    @property
    def n_user(self) -> int:
        """Streams of the user."""
        return self.n_streams - 1 - self.n_own

    @property
    def max_delay(self) -> int:
        """Frames before the first output."""
        return max(self.delays)

    @property
    def initial(self) -> Int64:
        """The start token of each stream, int64 (n_streams,)."""
        return np.array([self.text_card, *[self.card] * (self.n_streams - 1)], np.int64)

    def check_codes(self, name: str, codes: Int64, n: int) -> None:
        """Refuse codes that are not int64 (n,) within the codebook, its start token or -1."""
        if codes.shape != (n,) or codes.dtype.kind not in "iu":
            raise ShapeError(name, got=f"{codes.dtype} {codes.shape}", want=f"int64 ({n},)")
        if n and (codes.min() < ZERO_TOKEN or codes.max() > self.card):
            raise ShapeError(
                name, got=f"codes {codes.min()}..{codes.max()}", want=f"-1..{self.card}"
            )


class DelayLine:
    """The last few tokens of every stream, one conversation's; columns are positions, in a ring.

    Streams beyond the layout's are the guesses at the user's, kept only until they are given out.
    """

    def __init__(self, layout: StreamLayout) -> None:
        self.layout = layout
        self.position = 0
        n_guessed = max(0, layout.n_written - layout.n_own)
        user = layout.delays[1 + layout.n_own :]
        self._delays = np.array([*layout.delays, *user[:n_guessed]], np.int64)
        self._initial = layout.initial
        guessed = range(layout.n_streams, len(self._delays))
        self._given_out = np.array([*range(1 + layout.n_own), *guessed])
        self._back = self._delays[self._given_out] - layout.max_delay
        self._n_columns = layout.max_delay + 2
        self._ring = np.full((len(self._delays), self._n_columns), UNGENERATED, np.int64)

    def write_user(self, codes: Int64) -> None:
        """Put what the user said in this frame, int64 (n_user,), where its delay says."""
        layout, first = self.layout, 1 + self.layout.n_own
        layout.check_codes("user codes", codes, layout.n_user)
        streams = np.arange(first, layout.n_streams)
        self._ring[streams, (self.position + self._delays[streams]) % self._n_columns] = codes

    def model_input(self) -> Int64:
        """The token of each stream at this position, int64 (n_streams,).

        Start tokens as long as a stream's delay has not passed. Raises ShapeError for a token
        that was never written.
        """
        n = self.layout.n_streams
        column = self._ring[:n, self.position % self._n_columns]
        tokens = np.where(self.position <= self._delays[:n], self._initial, column)
        if (tokens == UNGENERATED).any():
            streams = np.flatnonzero(tokens == UNGENERATED).tolist()
            raise ShapeError("model input", got=f"no token for streams {streams}", want="all")
        return tokens

    def write_generated(self, text: int, codes: Int64 | None) -> None:
        """Go to the next position and put there what the model wrote: text, n_written codes."""
        self.position += 1
        column = self.position % self._n_columns
        self._ring[0, column] = text
        if codes is not None:
            n_own = self.layout.n_own
            self._ring[1 : 1 + n_own, column] = codes[:n_own]
            self._ring[self.layout.n_streams :, column] = codes[n_own:]

    def write_column(self, position: int, tokens: Int64) -> None:
        """Put given tokens, int64 (n_streams,), at a position; those below -1 are left out."""
        given = np.flatnonzero(tokens >= ZERO_TOKEN)
        self._ring[given, position % self._n_columns] = tokens[given]

    def output(self) -> tuple[int, Int64] | None:
        """The newest frame that is whole: (text token, codes int64 (n_written,)), or None."""
        layout = self.layout
        if self.position <= layout.max_delay:
            return None
        at = (self.position + self._back) % self._n_columns
        tokens = self._ring[self._given_out, at]
        return int(tokens[0]), tokens[1 : 1 + layout.n_written]

    def snapshot(self) -> Int64:
        """Position and ring as one array, for restore()."""
        return np.concatenate([[self.position], self._ring.ravel()]).astype(np.int64)

    def restore(self, saved: Int64) -> None:
        """Take up what snapshot() of an equal layout gave. Raises ShapeError."""
        if saved.shape != (1 + self._ring.size,) or saved[0] < 0:
            raise ShapeError("saved delay line", got=saved.shape, want=(1 + self._ring.size,))
        self.position = int(saved[0])
        self._ring[:] = saved[1:].reshape(self._ring.shape)


def delayed_columns(frames: Int64, layout: StreamLayout) -> Int64:
    """Where the tokens of whole frames lie on the delay lines.

    frames: int64 (n, n_streams), text and codes as they sound together.
    Returns int64 (n + max_delay, n_streams): row p is what is input at position p. Start tokens
    where the delay has not passed, UNGENERATED beyond a stream's last frame.
    """
    n = len(frames)
    columns = np.full((n + layout.max_delay, layout.n_streams), UNGENERATED, np.int64)
    for stream, delay in enumerate(layout.delays):
        columns[delay : delay + n, stream] = frames[:, stream]
        columns[: delay + 1, stream] = layout.initial[stream]
    return columns
