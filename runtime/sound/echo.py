"""The echo canceller: takes the assistant's own voice out of the microphone, frame by frame.

    microphone ---> linear filter ---> WebRTC AEC3 and noise suppression ---> gate ---> engine
    played -> held until its echo is due --^------------^

The speaker's frames are held back by the delay, found from the device's time stamps at first and by
correlation as soon as something has been played (cancel/align.py); a linear filter subtracts most
of the echo without touching the talker (cancel/linear.py); WebRTC's canceller removes the rest;
the gate closes over residues (cancel/gate.py). While nothing has been played for a second the
microphone passes through untouched, to the bit; else it comes out 15.3 ms later.

Only here is pywebrtc_audio known.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from edge.errors import MissingPackageError
from edge.frame import FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm, check_frame
from runtime.sound.cancel.align import DelayFinder
from runtime.sound.cancel.gate import ResidueGate
from runtime.sound.cancel.line import LEAST_HOLD_SAMPLES, LONGEST_HOLD_SAMPLES, FarLine
from runtime.sound.cancel.linear import LinearFilter
from runtime.sound.cancel.meter import ErleMeter, meter_step

_PER_MS = SAMPLE_RATE_HZ // 1_000
# WebRTC's delay at 24 kHz in samples, with noise suppression and without (measured).
_LAG_SUPPRESSING, _LAG_PLAIN = 367, 223
_NS_LEVEL = 1  # 12 dB
# The far end is given this much before its echo is due: room for error, and for a drifting clock.
_LEAD_MS = 15.0
_LEAST_LEAD_MS, _MOST_LEAD_MS = 5.0, 30.0
# A drift smaller than this is an error of its estimate, or harmless.
_NOTABLE_PPM = 2.0
# Nothing heard of it for so long after it was played: the echo has died away.
_TAIL_SAMPLES = 1_000 * _PER_MS
_FADE_SAMPLES = 10 * _PER_MS
# An echo would have shown itself to the correlation within 6 s of speech: there is none.
_SEARCH_FRAMES = 75
# Echo may still come for so long after its sound was due, or was played if its way is not known.
_LINGER_SAMPLES, _UNKNOWN_WAY_SAMPLES = 300 * _PER_MS, 500 * _PER_MS


class _Processor(Protocol):
    stream_delay_ms: int

    def process(self, near: Pcm, far: Pcm) -> Pcm: ...

    def reset(self) -> None: ...


class EchoCanceller:
    """One conversation's canceller, 24 kHz mono.

    Its state is inside: in this object's arrays and in the WebRTC library. It cannot be copied or
    passed on; a new conversation has a new one. Not for two threads.
    """

    def __init__(
        self,
        *,
        noise_suppress: bool = True,
        delay_ms: float | None = None,
        warm_up_ms: float = 0.0,
    ) -> None:
        """noise_suppress: 12 dB of noise suppression while the assistant is heard.

        delay_ms: as for set_delay_ms. warm_up_ms: speech of the assistant within which the
        canceller is given time to prove itself; see warming_up. Raises MissingPackageError.
        """
        self._warm_up_ms, self._warm_from = warm_up_ms, 0
        self._webrtc = _open_webrtc(noise_suppress=noise_suppress)
        self._lag = _LAG_SUPPRESSING if noise_suppress else _LAG_PLAIN
        self._finder = DelayFinder()
        self._linear = LinearFilter()
        self._gate = ResidueGate(lag=self._lag)
        self._meter, self._linear_meter = ErleMeter(), ErleMeter()
        self._line = FarLine()
        self._aligned = False
        self._passing = True
        self.set_delay_ms(delay_ms)

    def set_delay_ms(self, delay_ms: float | None) -> None:
        """Say what the device's time stamps tell, from process() to the microphone, 0 to 1000.

        It starts the search; once the correlation has found the true delay it is not needed, so
        small changes do nothing. Too small is harmless, None is "not known".
        """
        if delay_ms is not None and self._finder.found_ms is None:
            self._align(delay_ms)

    @property
    def delay_ms(self) -> float | None:
        """The delay worked with: found by correlation, else told, else None."""
        if self._finder.found_ms is not None:
            return self._finder.found_ms
        return self._line.hold / _PER_MS + _LEAD_MS if self._aligned else None

    @property
    def erle_db(self) -> float | None:
        """How many decibels of echo are taken away lately; None until the assistant has spoken."""
        return self._meter.erle_db

    @property
    def converged(self) -> bool:
        """Whether a voice over the assistant's can be trusted to be the user's.

        True once the echo is 12 dB down over the last 2 s of the assistant's speech, or once 6 s
        of it came back with no echo at all (headphones).
        """
        if self._finder.found_ms is None and self._meter.n_far >= _SEARCH_FRAMES:
            return True
        return not self._meter.is_low

    @property
    def warming_up(self) -> bool:
        """Echo is due and the canceller has not proved itself: what is left is not to be trusted.

        Not beyond the first warm_up_ms of the assistant's speech, or of that after its way was
        found to have changed: a room in which it never converges must not make it deaf.
        """
        n_learnt = self._meter.n_far - self._warm_from
        # The gate makes the whole look good before the filter is: its first slip would be heard.
        learnt = self.converged and not self._linear_meter.is_low
        if learnt or n_learnt * FRAME_MS >= self._warm_up_ms:
            return False
        way = self._line.hold if self._aligned else _UNKNOWN_WAY_SAMPLES
        return self._line.n_silent <= way + _LINGER_SAMPLES

    @property
    def passing(self) -> bool:
        """Nothing was played for a second: the last frame went through untouched."""
        return self._passing

    def process(self, near: Pcm, far: Pcm) -> Pcm:
        """One frame of microphone without the assistant's voice.

        near: float32 (1920,), this frame. far: float32 (1920,), what was handed to the speaker
        since the frame before, silence if nothing was. Returns float32 (1920,); near itself where
        nothing was played lately. Raises ShapeError.
        """
        check_frame("near", near)
        check_frame("far", far)
        self._line.play(far)
        quiet_samples = _TAIL_SAMPLES + self._line.hold
        was_passing, self._passing = self._passing, self._line.n_silent >= quiet_samples
        if self._passing and was_passing:
            return near
        out = self._cancel(near)
        if was_passing:
            return _cross_fade(near, out, start=self._lag)
        return _cross_fade(out, near, start=0) if self._passing else out

    def forget(self, n_samples: int) -> None:
        """Take back the last n_samples of what was handed over: they were flushed, not played."""
        self._line.forget(n_samples)

    def _cancel(self, near: Pcm) -> Pcm:
        found_ms = self._finder.step(near, self._line.newest())
        if found_ms is not None:
            if self._align(found_ms):
                self._warm_from = self._meter.n_far  # the way it had proved itself on is another
            self._follow_clock()
        held = self._line.held()
        left = self._linear.process(near, held) if self._aligned else near
        out = self._gate.process(self._webrtc.process(left, held), near - left)
        self._meter = meter_step(self._meter, near=near, far=held, cancelled=out)
        self._linear_meter = meter_step(self._linear_meter, near=near, far=held, cancelled=left)
        return out

    def _align(self, delay_ms: float) -> bool:
        """Hold the far end back so that its echo comes _LEAD_MS after it; whether that moved it.

        What a device tells may change all the time, so only a delay that was found starts the
        warm-up anew: without an echo to find, as in headphones, it would never end.
        """
        old = self._line.hold
        lead_ms = delay_ms - old / _PER_MS
        if self._aligned and _LEAST_LEAD_MS <= lead_ms <= _MOST_LEAD_MS:
            return False
        wanted = round((delay_ms - _LEAD_MS) * _PER_MS)
        new = min(max(wanted, LEAST_HOLD_SAMPLES), LONGEST_HOLD_SAMPLES)
        if self._aligned and new == old:
            return False
        self._line.hold = float(new)
        self._webrtc.stream_delay_ms = round(delay_ms - new / _PER_MS)
        self._webrtc.reset()  # it would not find the new delay in the little echo it is given
        self._linear.move(new - round(old) if self._aligned else 0, self._line.before())
        self._aligned = True
        self._meter = replace(self._meter, recent_db=())  # it has to prove itself anew
        self._linear_meter = replace(self._linear_meter, recent_db=())
        return True

    def _follow_clock(self) -> None:
        """Read the far end at the pace of the microphone's clock."""
        drift_ppm = self._finder.drift_ppm
        self._line.rate = drift_ppm * 1e-6 if abs(drift_ppm) >= _NOTABLE_PPM else 0.0


def _open_webrtc(*, noise_suppress: bool) -> _Processor:
    try:
        library: Any = importlib.import_module("pywebrtc_audio")
    except ImportError as error:
        raise MissingPackageError(
            "pywebrtc-audio", extra="aec", needed_for="echo cancellation"
        ) from error
    processor: _Processor = library.AudioProcessor(
        sample_rate=SAMPLE_RATE_HZ,
        echo_cancellation=True,
        noise_suppression=noise_suppress,
        ns_level=_NS_LEVEL,
    )
    return processor


def _cross_fade(first: Pcm, then: Pcm, *, start: int) -> Pcm:
    """`first` up to sample `start`, within 10 ms `then`; float32 (1920,) each."""
    at = np.arange(FRAME_SAMPLES, dtype=np.float32)
    share = np.clip((at - start) / _FADE_SAMPLES, 0, 1).astype(np.float32)
    return first * (1 - share) + then * share
