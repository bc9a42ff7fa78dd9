"""Automatic gain: a quiet talker is brought up, a loud one down, everybody else left alone.

Voice activity detection loses one chunk in ten at -60 dBFS and nothing worth speaking of at -40, so
speech whose vowels are between -40 and -8 dBFS passes untouched, to the bit. What is below is
brought to -30, what is above to -8. Only speech moves the gain: between words and while the
assistant is heard it stands still, so noise is not pumped up and echo is not taken for a talker.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edge.frame import FRAME_SAMPLES, Pcm
from runtime.sound.levels import duck, from_db, to_db

_LOWEST_DB, _HIGHEST_DB = -40.0, -8.0
_RAISED_DB = -30.0
_MOST_UP_DB, _MOST_DOWN_DB = 36.0, 18.0
_BLOCK = 480  # 20 ms
# Speech stands this far above the quietest blocks of the last seconds, and is no quieter than this.
_OVER_FLOOR_DB = 12.0
_LEAST_SPEECH_DB = -72.0
_FLOOR_RISE_DB = 0.3  # a frame: 3.75 dB a second
_NO_FLOOR_DB = -120.0
# The talker's level is followed by parts of the difference, upwards quicker: vowels set it.
_UP_PART, _DOWN_PART = 0.5, 0.02
# Frames of speech before the gain moves: a breath or a soft first consonant is no measure.
_LEAST_FRAMES = 2
# The gain itself, a frame: quick enough for a first sentence, slow enough not to be heard.
_GAIN_UP_DB, _GAIN_DOWN_DB = 6.0, 2.0
_PEAK = 0.97


@dataclass(frozen=True, slots=True)
class GainState:
    """gain_db: given to the end of the last frame. speech_db: the talker's level, None before the
    first word. floor_db: the noise between words. n_speech: frames of speech so far.
    """

    gain_db: float = 0.0
    speech_db: float | None = None
    floor_db: float = _NO_FLOOR_DB
    n_speech: int = 0


def gain_step(state: GainState, pcm: Pcm, *, playing: bool = False) -> tuple[GainState, Pcm]:
    """Follow the talker's level and bring one frame, float32 (1920,), towards the usual one.

    playing: the assistant is audible; nothing is learnt from such a frame. Returns pcm itself where
    the gain is 0 dB; never louder than 0.97 after a gain.
    """
    before = state.gain_db
    if not playing:
        state = _follow(state, pcm)
    peak = float(np.max(np.abs(pcm)))
    gain_db = state.gain_db
    if gain_db > 0 and peak * from_db(gain_db) > _PEAK:  # never below what it was without gain
        gain_db = max(0.0, to_db(_PEAK) - to_db(peak))
    if before == gain_db == 0.0:
        return replace(state, gain_db=0.0), pcm
    out = duck(pcm, from_db(before), from_db(gain_db))
    if before > 0 and float(np.max(np.abs(out))) > _PEAK:
        out = np.clip(out, -max(_PEAK, peak), max(_PEAK, peak))
    return replace(state, gain_db=gain_db), out


def _follow(state: GainState, pcm: Pcm) -> GainState:
    """Learn from one frame, and move the gain if it held speech."""
    powers = np.mean(np.square(pcm.reshape(FRAME_SAMPLES // _BLOCK, _BLOCK)), axis=1)
    low_db, high_db = (to_db(float(np.sqrt(p))) for p in (powers.min(), powers.max()))
    risen_db = state.floor_db + _FLOOR_RISE_DB
    floor_db = low_db if state.floor_db == _NO_FLOOR_DB else min(low_db, risen_db)
    state = replace(state, floor_db=floor_db)
    if high_db < max(_LEAST_SPEECH_DB, floor_db + _OVER_FLOOR_DB):
        return state
    speech_db = high_db
    if state.speech_db is not None:
        part = _UP_PART if high_db > state.speech_db else _DOWN_PART
        speech_db = state.speech_db + part * (high_db - state.speech_db)
    state = replace(state, speech_db=speech_db, n_speech=state.n_speech + 1)
    if state.n_speech < _LEAST_FRAMES:
        return state
    is_quiet = speech_db < (_RAISED_DB if state.gain_db > 0 else _LOWEST_DB)
    up_db = min(_RAISED_DB - speech_db, _MOST_UP_DB) if is_quiet else 0.0
    down_db = min(max(0.0, speech_db - _HIGHEST_DB), _MOST_DOWN_DB)
    wanted_db = up_db - down_db
    step_db = min(max(wanted_db - state.gain_db, -_GAIN_DOWN_DB), _GAIN_UP_DB)
    return replace(state, gain_db=state.gain_db + step_db)
