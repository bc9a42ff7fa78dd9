"""Delay lines: what goes in and comes out when."""

from __future__ import annotations

import numpy as np
import pytest

from edge.errors import ShapeError
from runtime.models.multistream.delays import (
    UNGENERATED,
    DelayLine,
    StreamLayout,
    delayed_columns,
)

LAYOUT = StreamLayout((0, 0, 2, 1, 0, 2), n_own=2, n_written=2, card=9, text_card=30)


def test_every_token_comes_out_in_the_frame_it_belongs_to() -> None:
    line = DelayLine(LAYOUT)
    frames = []
    for t in range(12):
        line.write_user(np.array([1, 2, 3]))
        line.model_input()
        # At step t the model writes position t+1: text and semantic of frame t+1, and the
        # acoustic code of the frame that is two older.
        line.write_generated(t % 30, np.array([t % 9, (t + 4) % 9]))
        out = line.output()
        frames.append(None if out is None else (out[0], *out[1].tolist()))
    assert frames[:2] == [None, None]
    # Frame f: its text and semantic code were written f-1, its acoustic code two steps later.
    assert frames[2:] == [(t - 2, (t - 2) % 9, (t + 4) % 9) for t in range(2, 12)]


def test_start_tokens_stand_in_until_a_delay_has_passed() -> None:
    line = DelayLine(LAYOUT)
    seen = []
    for t in range(5):
        line.write_user(np.array([1, 2, 3]))
        seen.append(line.model_input().tolist())
        line.write_generated(t, np.array([5, 6]))
    assert seen[0] == [30, 9, 9, 9, 9, 9]
    assert seen[1] == [0, 5, 9, 9, 2, 9]
    assert seen[2] == [1, 5, 9, 1, 2, 9]
    assert seen[3] == [2, 5, 6, 1, 2, 3]


def test_columns_of_whole_frames_are_what_the_line_feeds_in() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 9, (8, 6))
    columns = delayed_columns(frames, LAYOUT)
    assert columns.shape == (10, 6)
    line = DelayLine(LAYOUT)
    for t in range(8):
        line.write_user(frames[t, 3:])
        np.testing.assert_array_equal(line.model_input(), columns[t])
        line.write_generated(0, np.zeros(2, np.int64))
        line.write_column(t + 1, columns[t + 1])
    assert (columns[8:] == UNGENERATED).any()


def test_guesses_at_the_user_come_out_but_are_not_fed_back() -> None:
    layout = StreamLayout((0, 0, 1, 0, 1), n_own=2, n_written=4, card=9, text_card=30)
    line = DelayLine(layout)
    outs = []
    for t in range(6):
        line.write_user(np.array([7, 8]))
        fed = line.model_input()
        assert set(fed[3:].tolist()) <= {7, 8, 9}
        line.write_generated(t, np.array([t, t, t, t]))
        outs.append(line.output())
    assert outs[0] is None
    assert [out[1].tolist() for out in outs[1:] if out] == [
        [t - 1, t, t - 1, t] for t in range(1, 6)
    ]


def test_a_restored_line_goes_on_as_the_saved_one() -> None:
    first, second = DelayLine(LAYOUT), DelayLine(LAYOUT)
    for line in (first,):
        for t in range(5):
            line.write_user(np.array([t, t, t]))
            line.write_generated(t, np.array([t, t]))
    second.restore(first.snapshot())
    for line in (first, second):
        line.write_user(np.array([1, 1, 1]))
    np.testing.assert_array_equal(first.model_input(), second.model_input())
    with pytest.raises(ShapeError):
        second.restore(first.snapshot()[:-1])


@pytest.mark.parametrize(
    "codes", [np.array([1, 2]), np.array([1, 2, 10]), np.array([-2, 0, 0]), np.array([0.5, 1, 1])]
)
def test_codes_outside_the_codebook_are_refused(codes: np.ndarray) -> None:
    with pytest.raises(ShapeError, match="user codes"):
        DelayLine(LAYOUT).write_user(codes)


def test_a_token_that_was_never_written_is_never_fed_in() -> None:
    line = DelayLine(LAYOUT)
    line.position = 4
    with pytest.raises(ShapeError, match="no token"):
        line.model_input()
