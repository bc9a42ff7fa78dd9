"""Making what the microphone gives fit to be heard, and knowing what is wrong with it.

    repair:  numbers that are none -> gaps concealed -> DC taken out     (before the echo canceller)
    adapt:   automatic gain, and what band the line carries                      (after it)

The gain comes after the canceller, which needs a way from loudspeaker to microphone that stays the
same. Sound without faults at a usual level passes through both untouched, to the bit. Everything is
a pure function of a state that is passed in and returned; nothing is ever said in a log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from edge.frame import FRAME_MS, FRAME_SAMPLES, Pcm, check_frame
from runtime.sound.microphone.band import BandState, band_hz, band_start, band_step
from runtime.sound.microphone.conceal import ConcealState, conceal, conceal_start
from runtime.sound.microphone.gain import GainState, gain_step

# Above 1.0 nothing is sound; a little over is left to the float formats that have it.
_LIMIT = 4.0
# A constant part below this (-54 dBFS) harms nobody and is left alone.
_LEAST_DC = 0.002
_DC_PART = 0.02  # of the difference, per frame: about 4 s
# A converter that is overdriven stands at its end for several samples in a row.
_CLIP_LEVEL = 0.997
_CLIP_RUN = 3
_CLIP_KEEP = 0.97  # per frame: about 2.7 s
_CLIPPING_PART = 0.02
_DEAD_MS = 2_000
_QUIET_GAIN_DB = 12.0
_LOSSY_PART = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class ConditionState:
    """All that is remembered of a microphone between frames; start with condition_start().

    dc, dc_taken: the constant part, and what is taken out at the end of the last frame.
    n_frames, n_bad: frames so far, and samples that were no numbers. dead_ms: exact zeros up to
    now. clipped: part of the last frames that were clipped, 0..1.
    """

    conceal: ConcealState = field(default_factory=conceal_start)
    band: BandState = field(default_factory=band_start)
    gain: GainState = field(default_factory=GainState)
    dc: float = 0.0
    dc_taken: float = 0.0
    n_frames: int = 0
    n_bad: int = 0
    dead_ms: int = 0
    clipped: float = 0.0

    @property
    def band_hz(self) -> int | None:
        """4000 (telephone), 8000 or 12000; None before 1.6 s of sound."""
        return band_hz(self.band)

    @property
    def gain_db(self) -> float:
        """The automatic gain now."""
        return self.gain.gain_db

    @property
    def dead(self) -> bool:
        """Exact zeros for more than 2 s: no microphone gives that, a denied permission does."""
        return self.dead_ms > _DEAD_MS

    @property
    def clipping(self) -> bool:
        """The microphone is overdriven, more than now and then."""
        return self.clipped > _CLIPPING_PART


def condition_start() -> ConditionState:
    """Nothing heard yet."""
    return ConditionState()


def repair(state: ConditionState, pcm: Pcm, *, lost: bool = False) -> tuple[ConditionState, Pcm]:
    """Mend one frame as it came in, before the echo canceller.

    pcm: float32 (1920,). lost: the port knows that this frame never came. Returns pcm itself where
    nothing was wrong. Raises ShapeError.
    """
    check_frame("pcm", pcm)
    state, pcm = _numbers(state, pcm)
    dead_ms = 0 if lost or pcm.any() else state.dead_ms + FRAME_MS
    clipped = _CLIP_KEEP * state.clipped + (1 - _CLIP_KEEP) * is_clipped(pcm)
    known, pcm = conceal(state.conceal, pcm, lost=lost)
    state = replace(
        state, conceal=known, dead_ms=dead_ms, clipped=clipped, n_frames=state.n_frames + 1
    )
    return _without_dc(state, pcm)


def adapt(state: ConditionState, pcm: Pcm, *, playing: bool = False) -> tuple[ConditionState, Pcm]:
    """Bring one frame to a usual level, after the echo canceller, and learn the line's band.

    playing: the assistant is audible, so that what is heard may be the rest of its echo. Returns
    pcm itself where the gain is 0 dB. Raises ShapeError.
    """
    check_frame("pcm", pcm)
    band = state.band if playing else band_step(state.band, pcm)
    gain, out = gain_step(state.gain, pcm, playing=playing)
    return replace(state, band=band, gain=gain), out


def condition(
    state: ConditionState, pcm: Pcm, *, lost: bool = False, playing: bool = False
) -> tuple[ConditionState, Pcm]:
    """Repair and adapt in one, where no echo canceller stands between. Raises ShapeError."""
    state, pcm = repair(state, pcm, lost=lost)
    return adapt(state, pcm, playing=playing)


def findings(state: ConditionState) -> Mapping[str, str]:
    """What a person should know about this microphone: a short name to one line with a way out."""
    found: dict[str, str] = {}
    if state.dead:
        found["dead"] = (
            "the microphone gives only exact zeros; allow microphone access in the system's "
            "privacy settings, or unmute it"
        )
    if state.clipping:
        found["clipping"] = "the microphone is overdriven; turn its input level down"
    if state.gain.gain_db > _QUIET_GAIN_DB:
        found["quiet"] = (
            f"speech comes in quietly and is raised by {state.gain.gain_db:.0f} dB; come closer "
            "or turn the input level up"
        )
    if state.band_hz == 4_000:
        found["telephone"] = (
            "the sound has a telephone's band of 4 kHz, so words are harder to recognise; a "
            "Bluetooth headset in call mode is the usual reason"
        )
    if state.n_frames and state.conceal.n_gaps / state.n_frames > _LOSSY_PART:
        found["loss"] = f"{state.conceal.n_gaps} gaps in the sound were filled; the line loses some"
    if state.n_bad:
        found["numbers"] = f"{state.n_bad} samples were no numbers and were replaced by silence"
    return found


def is_clipped(pcm: Pcm) -> bool:
    """Whether float32 (n,) stands at its end, +-0.997 or beyond, for 3 samples in a row."""
    high = np.abs(pcm) >= _CLIP_LEVEL
    if not high.any():
        return False
    run = np.lib.stride_tricks.sliding_window_view(high, _CLIP_RUN)
    return bool(run.all(axis=1).any())


def _numbers(state: ConditionState, pcm: Pcm) -> tuple[ConditionState, Pcm]:
    """Silence where a sample is no number or beyond all sense."""
    bad = ~(np.abs(pcm) <= _LIMIT)
    n_bad = int(np.count_nonzero(bad))
    if n_bad == 0:
        return state, pcm
    return replace(state, n_bad=state.n_bad + n_bad), np.where(bad, np.float32(0), pcm)


def _without_dc(state: ConditionState, pcm: Pcm) -> tuple[ConditionState, Pcm]:
    """Take the constant part out, moving slowly so that nothing is heard of it."""
    dc = state.dc + _DC_PART * (float(np.mean(pcm)) - state.dc)
    taken = dc if abs(dc) >= _LEAST_DC else 0.0
    if taken == state.dc_taken == 0.0:
        return replace(state, dc=dc), pcm
    ramp = np.linspace(state.dc_taken, taken, FRAME_SAMPLES, endpoint=False, dtype=np.float32)
    return replace(state, dc=dc, dc_taken=taken), pcm - ramp
