"""Packet loss: a short gap inside speech is filled with the voice's last pitch period, fading.

Better than silence, because a sudden hole in a vowel is heard as a consonant, by people and by
recognisers; and no longer than 60 ms, because after that it is invention.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm, check_frame
from runtime.sound.levels import rms

_PER_MS = SAMPLE_RATE_HZ // 1_000
_KEPT_SAMPLES = 50 * _PER_MS
# Exact zeros this long do not happen in sound from a microphone.
_LEAST_GAP_SAMPLES = 4 * _PER_MS
# Inside speech: the last 5 ms before the gap were no more than 16 dB below the talker's loudest of
# late. Speech that ends by itself has faded by then, even a synthetic voice cut to true silence.
_LOUD_PART = 0.15
_LEAST_LOUD = 2e-4
_LEVEL_KEEP = 0.98  # per frame: halved in 3 s
_EDGE_SAMPLES = 5 * _PER_MS
_LONGEST_FILL_SAMPLES = 60 * _PER_MS
_JOIN_SAMPLES = 3 * _PER_MS
_SHORTEST_PERIOD, _LONGEST_PERIOD = SAMPLE_RATE_HZ // 400, SAMPLE_RATE_HZ // 66
_MATCH_SAMPLES = 15 * _PER_MS


@dataclass(frozen=True, slots=True, eq=False)
class ConcealState:
    """What a gap is filled from.

    recent: float32 (1200,), the last 50 ms given out. cycle: the pitch period that a gap still
    open is filled with, None outside gaps. n_filled: samples made up in it. n_gaps: gaps so far.
    loudest: RMS of the loudest frame of late.
    """

    recent: Pcm
    loudest: float = 0.0
    cycle: Pcm | None = None
    n_filled: int = 0
    n_gaps: int = 0


def conceal_start() -> ConcealState:
    """Nothing heard yet."""
    return ConcealState(np.zeros(_KEPT_SAMPLES, np.float32))


def conceal(state: ConcealState, pcm: Pcm, *, lost: bool = False) -> tuple[ConcealState, Pcm]:
    """Fill the gaps of one frame.

    pcm: float32 (1920,). lost: the whole frame never came. Else runs of 4 ms or more of exact
    zeros that cut into loud sound are gaps. Returns pcm itself where there is no gap. Raises
    ShapeError.
    """
    check_frame("pcm", pcm)
    state = replace(state, loudest=max(rms(pcm), state.loudest * _LEVEL_KEEP))
    gaps = [(0, FRAME_SAMPLES)] if lost else _zero_runs(pcm)
    if not gaps:
        if state.cycle is None:
            return _keep(state, pcm), pcm
        gaps = [(0, 0)]  # only the join to the sound that is back
    out, done = pcm, 0
    for first, end in gaps:
        before = np.concatenate([state.recent, out[done:first]])
        state = _keep(state, before)
        if first > 0 or state.cycle is None:
            state = _open_gap(replace(state, cycle=None, n_filled=0))
        done = first
        if state.cycle is None:
            continue
        if out is pcm:
            out = pcm.copy()
        state = _fill(state, out, first, end)
        done = end
    return _keep(state, np.concatenate([state.recent, out[done:]])), out


def _zero_runs(pcm: Pcm) -> list[tuple[int, int]]:
    """First and end of each run of exact zeros long enough to be a gap."""
    zero = np.concatenate([[False], pcm == 0, [False]])
    turns = np.flatnonzero(zero[1:] != zero[:-1]).tolist()
    runs = zip(turns[::2], turns[1::2], strict=True)
    return [
        (first, end)
        for first, end in runs
        # A run at the frame's edge may be longer than what is seen of it.
        if end - first >= _LEAST_GAP_SAMPLES or first == 0 or end == FRAME_SAMPLES
        if end - first >= _PER_MS
    ]


def _open_gap(state: ConcealState) -> ConcealState:
    """Take the pitch period that the gap will be filled with, if there is speech before it."""
    least = max(_LEAST_LOUD, _LOUD_PART * state.loudest)
    if rms(state.recent[-_EDGE_SAMPLES:]) < least:
        return state
    period = _pitch_period(state.recent)
    return replace(state, cycle=state.recent[-period:].copy(), n_gaps=state.n_gaps + 1)


def _pitch_period(recent: Pcm) -> int:
    """The shift at which the last 15 ms look most like what came before, in samples."""
    sample = recent[-_MATCH_SAMPLES:]
    shifts = range(_SHORTEST_PERIOD, _LONGEST_PERIOD + 1)
    past = np.lib.stride_tricks.sliding_window_view(recent, _MATCH_SAMPLES)
    candidates = past[[len(recent) - _MATCH_SAMPLES - shift for shift in shifts]]
    likeness = candidates @ sample / (np.sqrt(np.sum(candidates**2, axis=1)) + 1e-9)
    return shifts[int(np.argmax(likeness))]


def _fill(state: ConcealState, out: Pcm, first: int, end: int) -> ConcealState:
    """Write the made-up sound to out[first:end] and join it to what follows."""
    assert state.cycle is not None
    n_fill = end - first
    n_join = min(_JOIN_SAMPLES, FRAME_SAMPLES - end) if end < FRAME_SAMPLES else 0
    at = state.n_filled + np.arange(n_fill + n_join)
    fade = np.clip(1 - at / _LONGEST_FILL_SAMPLES, 0, 1)
    made = (state.cycle[at % len(state.cycle)] * fade).astype(np.float32)
    out[first:end] = made[:n_fill]
    if end == FRAME_SAMPLES:
        state = replace(state, n_filled=state.n_filled + n_fill)
    else:
        share = np.linspace(0, 1, n_join, endpoint=False, dtype=np.float32)
        out[end : end + n_join] = made[n_fill:] * (1 - share) + out[end : end + n_join] * share
        state = replace(state, cycle=None, n_filled=0)
    return replace(state, recent=np.concatenate([state.recent, out[first:end]])[-_KEPT_SAMPLES:])


def _keep(state: ConcealState, pcm: Pcm) -> ConcealState:
    """Remember the last 50 ms of what was given out."""
    joined = pcm if len(pcm) >= _KEPT_SAMPLES else np.concatenate([state.recent, pcm])
    return replace(state, recent=joined[-_KEPT_SAMPLES:])
