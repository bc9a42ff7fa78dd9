"""The assistant's own voice, come back into its ear past every canceller: known by its course.

    played -> log power in bands, each 10 ms -> delayed and scaled as learnt --> at least what came?
    heard  -> log power in bands, each 10 ms ---------------------------------^     then it is echo

A model that hears and speaks at once takes its own voice for a talker's, falls silent and answers
itself. There are no words to compare before it has done so, but the course of what comes back is
that of what was played: once the two went together for some frames, delay and loudness of the way
are known, and blocks that hold no more than that way explains are kept out. A talker as loud as the
echo is more than it explains. Until a way was found nothing is changed, to the bit: behind a
canceller that works, or in headphones, none ever is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm, check_frame

Float32 = NDArray[np.float32]

_BLOCK = SAMPLE_RATE_HZ // 100
_BLOCKS = FRAME_SAMPLES // _BLOCK
_N_BANDS = 12
_LOW_HZ, _HIGH_HZ = 150.0, 6_000.0
# What is compared: the last 480 ms, at delays up to 720 ms.
_PATCH, _LAGS = 48, 72
_FLOOR_DB, _HEARD_DB, _ACTIVE_DB = -75.0, -65.0, -45.0
# A room holds each sound a while: 3 dB a block is 200 ms of reverberation.
_RING_DB = 3.0
# A voice and its echo agree so well in 22 of 24 frames, at one delay, even 20 dB down; another
# talker's over it in 10 at the most, each chance alike lasting for six frames (48 made pairs).
_SAME = 0.8
_VOTERS, _VOTES, _LAPSED, _NEAR_BLOCKS = 24, 14, 2, 1
_LEARN = 0.2
# Above what the way explains by this much there is somebody else.
_MARGIN_DB = 6.0
_EXPLAINED_PART = 0.8
_SHUT = 0.0


@dataclass(slots=True)
class OwnVoice:
    """One conversation's knowledge of the way from its loudspeaker to its ear; spent by hear().

    Blocks are 10 ms. heard_db, said_db: courses in bands, dBFS, the newest last; said_db with the
    ringing of a room. votes: delays at which the last frames went together, in blocks, None for
    none. way: the delay that is believed. gains_db: of the way, by band. gain: at the end of the
    last frame. n_kept_out: blocks that were.
    """

    heard_db: Float32 = field(default_factory=lambda: _nothing(_PATCH))
    said_db: Float32 = field(default_factory=lambda: _nothing(_PATCH + _LAGS))
    heard_tail: Float32 = field(default_factory=lambda: np.zeros(_BLOCK, np.float32))
    said_tail: Float32 = field(default_factory=lambda: np.zeros(_BLOCK, np.float32))
    votes: tuple[int | None, ...] = ()
    way: int | None = None
    gains_db: Float32 = field(default_factory=lambda: np.full(_N_BANDS, _FLOOR_DB, np.float32))
    gain: float = 1.0
    n_kept_out: int = 0


def hear(own: OwnVoice, pcm: Pcm) -> Pcm:
    """One frame without what is only the own voice; pcm itself where nothing is known of a way.

    pcm: float32 (1920,), captured while the frame of the last say() was played, or later. Raises
    ShapeError.
    """
    check_frame("pcm", pcm)
    courses = _courses(own.heard_tail, pcm)
    own.heard_tail = pcm[-_BLOCK:].copy()
    own.heard_db = np.concatenate([own.heard_db[_BLOCKS:], courses])
    _find_way(own)
    if own.way is None:
        return pcm
    return _without(own, pcm, courses)


def say(own: OwnVoice, pcm: Pcm) -> None:
    """What is played now, float32 (1920,). Raises ShapeError."""
    check_frame("pcm", pcm)
    if not pcm.any() and not own.said_tail.any():
        courses = _nothing(_BLOCKS)
    else:
        courses = _courses(own.said_tail, pcm)
    own.said_tail = pcm[-_BLOCK:].copy()
    last = own.said_db[-1]
    for row in courses:
        last = np.maximum(row, last - _RING_DB)
        row[:] = last
    own.said_db = np.concatenate([own.said_db[_BLOCKS:], courses])


def _find_way(own: OwnVoice) -> None:
    """Let this frame vote for a delay; believe one that enough frames agree on."""
    if own.said_db.max() < _ACTIVE_DB or own.heard_db.max() < _HEARD_DB:
        return
    best, likeness = _best_lag(own)
    voted = likeness >= _SAME
    own.votes = (*own.votes, best if voted else None)[-_VOTERS:]
    if own.way is not None and len(own.votes) == _VOTERS and _agree(own.votes, own.way) <= _LAPSED:
        own.way = None
    if voted and _agree(own.votes, best) >= _VOTES:
        _learn_gains(own, best)


def _agree(votes: tuple[int | None, ...], lag: int) -> int:
    """How many of the last frames found this delay."""
    return sum(vote is not None and abs(vote - lag) <= _NEAR_BLOCKS for vote in votes)


def _learn_gains(own: OwnVoice, lag: int) -> None:
    """How loud each band comes back, from the blocks in which it was played and heard."""
    said = _said_at(own, lag, _PATCH)
    both = (said > _ACTIVE_DB) & (own.heard_db > _HEARD_DB)
    if not both.any():
        return
    seen = np.where(both, own.heard_db - said, 0).sum(axis=0) / np.maximum(both.sum(axis=0), 1)
    known = both.any(axis=0)
    if own.way is None or abs(own.way - lag) > _NEAR_BLOCKS:
        own.gains_db = np.where(known, seen, float(seen[known].max())).astype(np.float32)
    else:
        step = np.where(known, _LEARN * (seen - own.gains_db), 0)
        own.gains_db = (own.gains_db + step).astype(np.float32)
    own.way = lag


def _best_lag(own: OwnVoice) -> tuple[int, float]:
    """The delay at which what was heard goes most like what was said, and how much, -1..1."""
    heard = own.heard_db - own.heard_db.mean(axis=0)
    windows = np.lib.stride_tricks.sliding_window_view(own.said_db, _PATCH, axis=0)
    alike = np.ascontiguousarray(windows).reshape(len(windows), -1) @ heard.T.ravel()
    # heard has no mean, so that of what was said matters for its power only.
    power = np.square(windows).mean(axis=2) - np.square(windows.mean(axis=2))
    norm = np.sqrt(_PATCH * power.sum(axis=1) * np.square(heard).sum())
    alike = alike / np.maximum(norm, 1e-3)
    at = int(np.argmax(alike))
    return _LAGS - at, float(alike[at])


def _said_at(own: OwnVoice, lag: int, n_blocks: int) -> Float32:
    """What was said, `lag` blocks before the last n_blocks that were heard."""
    end = len(own.said_db) - lag
    return own.said_db[end - n_blocks : end]


def _without(own: OwnVoice, pcm: Pcm, courses: Float32) -> Pcm:
    """Shut over the blocks that the way explains."""
    assert own.way is not None
    lags = [lag for lag in (own.way - 1, own.way, own.way + 1) if 0 <= lag <= _LAGS]
    said = np.max([_said_at(own, lag, _BLOCKS) for lag in lags], axis=0)
    due = said + own.gains_db + _MARGIN_DB
    power = 10 ** (courses / 10)
    explained = np.where(courses <= due, power, 0).sum(axis=1) / power.sum(axis=1)
    audible = courses.max(axis=1) > _FLOOR_DB
    echoes = audible & (said.max(axis=1) > _FLOOR_DB) & (explained >= _EXPLAINED_PART)
    # One block that is not explained between some that are is a fault of the explanation.
    before = np.concatenate([[own.gain < 1], echoes[:-1]])
    echoes |= before & audible & (said.max(axis=1) > _FLOOR_DB)
    own.n_kept_out += int(np.count_nonzero(echoes))
    if own.gain == 1.0 and not echoes.any():
        return pcm
    gains = np.array([own.gain, *np.where(echoes, _SHUT, 1.0)], np.float32)
    own.gain = float(gains[-1])
    at = np.arange(FRAME_SAMPLES) / _BLOCK
    ramp = np.minimum(np.interp(at, np.arange(_BLOCKS + 1), gains), np.repeat(gains[1:], _BLOCK))
    return (pcm * ramp).astype(np.float32)


def _courses(tail: Float32, pcm: Pcm) -> Float32:
    """Level in each band of each block, dBFS, float32 (8, 12); tail: the block before."""
    sound = np.concatenate([tail, pcm])
    window = np.hanning(2 * _BLOCK).astype(np.float32)
    pieces = np.lib.stride_tricks.sliding_window_view(sound, 2 * _BLOCK)[::_BLOCK] * window
    power = np.square(np.abs(np.fft.rfft(pieces, axis=1))) / np.square(window.sum() / 2)
    hz = np.fft.rfftfreq(2 * _BLOCK, 1 / SAMPLE_RATE_HZ)
    edges = np.searchsorted(hz, np.geomspace(_LOW_HZ, _HIGH_HZ, _N_BANDS + 1))
    sums = np.add.reduceat(power[:, : edges[-1]], edges[:-1], axis=1)
    courses: Float32 = np.maximum(10 * np.log10(sums + 1e-12), _FLOOR_DB).astype(np.float32)
    return courses


def _nothing(n_blocks: int) -> Float32:
    return np.full((n_blocks, _N_BANDS), _FLOOR_DB, np.float32)
