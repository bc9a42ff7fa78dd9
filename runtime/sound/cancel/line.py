"""What was played, held back until its echo is due, and read a little faster or slower at need."""

from __future__ import annotations

import numpy as np

from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm

LONGEST_HOLD_SAMPLES = SAMPLE_RATE_HZ
_HALF = 8  # taps on each side
LEAST_HOLD_SAMPLES = _HALF  # what is read between samples needs some on both sides
_LINE_SAMPLES = 2 * LONGEST_HOLD_SAMPLES
_FLOOR = 1e-4  # -80 dBFS
_BLOCK = 240  # the position between samples is constant for 10 ms


class FarLine:
    """One conversation's far end: the last 2 s of what was handed to the speaker.

    hold: samples by which it is read late; whole unless a rate is set. rate: by how many samples
    hold grows in a sample, 5e-5 where the microphone's clock is 50 ppm fast.
    n_silent: samples since something was played.
    """

    def __init__(self) -> None:
        self._line = np.zeros(_LINE_SAMPLES, np.float32)  # newest last
        self.hold = 0.0
        self.rate = 0.0
        self.n_silent = _LINE_SAMPLES

    def play(self, far: Pcm) -> None:
        """Note one frame that goes to the speaker now, float32 (1920,)."""
        self._line[:-FRAME_SAMPLES] = self._line[FRAME_SAMPLES:]
        self._line[-FRAME_SAMPLES:] = far
        loud = float(np.max(np.abs(far))) > _FLOOR
        self.n_silent = 0 if loud else self.n_silent + FRAME_SAMPLES
        if self.rate:
            grown = self.hold + self.rate * FRAME_SAMPLES
            self.hold = min(max(grown, float(LEAST_HOLD_SAMPLES)), float(LONGEST_HOLD_SAMPLES))

    def forget(self, n_samples: int) -> None:
        """Take back the last n_samples: they were flushed and never played."""
        n_flushed = min(max(n_samples, 0), _LINE_SAMPLES)
        self._line[_LINE_SAMPLES - n_flushed :] = 0

    def newest(self) -> Pcm:
        """The frame last played, not held back; float32 (1920,)."""
        return self._line[-FRAME_SAMPLES:]

    def held(self) -> Pcm:
        """The frame whose echo is due, float32 (1920,)."""
        whole = round(self.hold)
        if not self.rate and whole == self.hold:
            return self._line[_LINE_SAMPLES - whole - FRAME_SAMPLES :][:FRAME_SAMPLES].copy()
        out = np.empty(FRAME_SAMPLES, np.float32)
        for at in range(0, FRAME_SAMPLES, _BLOCK):
            # hold is that of the frame's end
            hold = self.hold - self.rate * (FRAME_SAMPLES - at - _BLOCK / 2)
            out[at : at + _BLOCK] = self._between(_LINE_SAMPLES - FRAME_SAMPLES + at - hold)
        return out

    def before(self) -> Pcm:
        """All that was due before the frame that held() gives, to the sample; float32 (n,)."""
        return self._line[: _LINE_SAMPLES - round(self.hold) - FRAME_SAMPLES]

    def _between(self, first: float) -> Pcm:
        """A block from a position between two samples: windowed sinc of 16 taps."""
        first = min(max(first, float(_HALF)), float(_LINE_SAMPLES - _BLOCK - _HALF))
        whole = int(np.floor(first))
        at = np.arange(1 - _HALF, _HALF + 1) - (first - whole)
        taps = np.sinc(at) * np.cos(np.pi * at / (2 * _HALF + 1)) ** 2
        near = self._line[whole - _HALF + 1 : whole + _BLOCK + _HALF]
        out: Pcm = np.correlate(near, (taps / taps.sum()).astype(np.float32), "valid")
        return out
