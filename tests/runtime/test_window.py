"""The cache window: which positions are held, how far apart they are, over a long conversation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import UsageError
from runtime.models.multistream.window import Forget, Window

# A held key: the position it has now, and the frame it was made in.
Keys = dict[int, int]


def run(window: Window, n_frames: int, *, quiet_every: int = 0) -> list[Keys]:
    """What is held when each frame is run, the newest among it."""
    held: Keys = {position: -1 - position for position in range(window.n_prefix)}
    seen = []
    for frame in range(n_frames):
        quiet = quiet_every > 0 and frame % quiet_every == 0
        for move in window.make_room(quiet=quiet):
            if isinstance(move, Forget):
                for position in range(move.first, move.end):
                    del held[position]
            else:
                held = {p + move.delta if p >= move.first else p: f for p, f in held.items()}
        assert window.next_position not in held
        held[window.next_position] = frame
        window.advance()
        seen.append(dict(held))
    return seen


@given(st.integers(2, 40), st.integers(1, 200), st.integers(0, 5))
def test_without_a_prefix_exactly_the_last_frames_are_held(
    context: int, n_frames: int, quiet_every: int
) -> None:
    for frame, held in enumerate(run(Window(context), n_frames, quiet_every=quiet_every)):
        assert sorted(held.values()) == list(range(max(0, frame + 1 - context), frame + 1))
        newest = max(held)
        # Positions differ by what the frames differ by, however often numbering began anew.
        assert all(newest - position == frame - of for position, of in held.items())
        assert newest < 4 * context + 1


@given(st.integers(8, 60), st.data())
def test_a_prefix_stays_and_no_key_is_further_away_than_the_context(
    context: int, data: st.DataObject
) -> None:
    n_prefix = data.draw(st.integers(1, context - 4))
    block = data.draw(st.integers(1, 30))
    quiet_every = data.draw(st.integers(0, 9))
    window = Window(context, n_prefix=n_prefix, block=block)
    for frame, held in enumerate(run(window, 300, quiet_every=quiet_every)):
        assert all(held[position] == -1 - position for position in range(n_prefix))
        assert max(held) - min(held) < context
        live = sorted((p, f) for p, f in held.items() if f >= 0)
        # The newest frames, without a gap, in order, right after the prefix.
        assert [f for _, f in live] == list(range(frame + 1 - len(live), frame + 1))
        assert [p for p, _ in live] == list(range(n_prefix, n_prefix + len(live)))
        assert len(live) >= min(frame + 1, context - n_prefix - window.block - window.block // 2)


def test_a_quiet_frame_is_used_before_the_last_moment() -> None:
    window = Window(100, n_prefix=10, block=20)
    for _ in range(80):
        assert window.make_room() == []
        window.advance()
    assert window.next_position == 90
    assert len(window.make_room(quiet=True)) == 2
    assert window.next_position == 70


def test_a_prompt_longer_than_the_context_is_refused() -> None:
    with pytest.raises(UsageError, match="shorten"):
        Window(50, n_prefix=50)


@given(st.integers(24, 60), st.integers(0, 8), st.integers(0, 150), st.integers(0, 5))
def test_a_narrowed_window_holds_the_newest_and_no_key_is_too_far(
    context: int, n_prefix: int, n_before: int, quiet_every: int
) -> None:
    window = Window(context, n_prefix=n_prefix, block=7)
    held: Keys = {position: -1 - position for position in range(n_prefix)}
    for frame in range(n_before + 60):
        if frame == n_before:
            window.narrow(context // 2)
        for move in window.make_room(quiet=quiet_every > 0 and frame % quiet_every == 0):
            if isinstance(move, Forget):
                held = {p: f for p, f in held.items() if not move.first <= p < move.end}
            else:
                held = {p + move.delta if p >= move.first else p: f for p, f in held.items()}
        assert window.next_position not in held
        held[window.next_position] = frame
        window.advance()
        assert all(held[position] == -1 - position for position in range(n_prefix))
        reach = context // 2 if frame >= n_before else context
        assert max(held) - min(held) < reach
        live = sorted((p, f) for p, f in held.items() if f >= 0)
        assert [f for _, f in live] == list(range(frame + 1 - len(live), frame + 1))
    with pytest.raises(UsageError, match="narrowed"):
        window.narrow(context)
