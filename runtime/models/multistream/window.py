"""Which positions a conversation without end keeps: pure arithmetic, carried out by the caller.

Without a prefix the oldest position goes each step, exactly the attention window the model was
trained with. With a pinned prefix positions would drift apart from it, so a block of the oldest
goes at once and the rest moves down: no key is ever further away than the trained context.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.errors import UsageError


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop positions first..end-1."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Shift:
    """Move positions first and all after it by delta."""

    first: int
    delta: int


class Window:
    """The positions held by one conversation: 0..n_prefix-1 and first..next_position-1.

    context: positions that the model may attend to, the newest among them.
    block: how many go at once where there is a prefix. rebase_at: the position at which numbering
    begins anew where there is none, long before float32 angles are coarse.
    """

    def __init__(
        self, context: int, *, n_prefix: int = 0, block: int = 250, rebase_at: int = 0
    ) -> None:
        if n_prefix >= context:
            raise UsageError(
                f"a prompt of {n_prefix} frames does not fit a context of {context}; shorten it"
            )
        self.context, self.n_prefix = context, n_prefix
        self.block = min(block, max(1, (context - n_prefix) // 2))
        self.rebase_at = rebase_at or 4 * context
        self.first = n_prefix
        self.next_position = n_prefix

    def make_room(self, *, quiet: bool = False) -> list[Forget | Shift]:
        """What to do before the token at next_position is run, in order.

        quiet: nobody speaks now, so costly moves that are due soon are done already.
        """
        if self.n_prefix:
            limit = self.context - self.block // 2 if quiet else self.context
            return self._drop_blocks(limit) if self.next_position >= limit else []
        moves: list[Forget | Shift] = []
        oldest = self.next_position + 1 - self.context
        if oldest > self.first:
            moves.append(Forget(self.first, oldest))
            self.first = oldest
        limit = self.rebase_at * 3 // 4 if quiet else self.rebase_at
        if self.next_position >= limit and self.first > 0:
            moves.append(Shift(self.first, -self.first))
            self.next_position -= self.first
            self.first = 0
        return moves

    def advance(self) -> None:
        """The token at next_position has been run."""
        self.next_position += 1

    def narrow(self, context: int) -> None:
        """Attend to fewer positions from now on; what is beyond goes with the next make_room().

        Raises UsageError where the prefix would not fit, or context is not smaller.
        """
        if not self.n_prefix + 1 < context <= self.context:
            raise UsageError(f"a context of {self.context} cannot be narrowed to {context}")
        self.context = context
        self.block = min(self.block, max(1, (context - self.n_prefix) // 2))

    def _drop_blocks(self, limit: int) -> list[Forget | Shift]:
        """As many of the oldest blocks as it takes; more than one only after narrow()."""
        n_blocks = (self.next_position - limit) // self.block + 1
        n_dropped = min(n_blocks * self.block, self.next_position - self.first)
        end = self.first + n_dropped
        self.next_position -= n_dropped
        return [Forget(self.first, end), Shift(end, -n_dropped)]
