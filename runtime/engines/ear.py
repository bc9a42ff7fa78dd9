"""The ear: 24 kHz frames become 16 kHz chunks, and the last minute is kept for the recogniser."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edge.frame import FRAME_SAMPLES, Pcm, check_frame
from runtime.engines.roles import CHUNK_SAMPLES, EAR_RATE_HZ

Float32 = NDArray[np.float32]

KEPT_SAMPLES = 60 * EAR_RATE_HZ


_TAPS = 95  # at 48 kHz: 1 ms of delay, 60 dB down from 8.4 kHz on
_UP, _DOWN = 2, 3
_CUTOFF_HZ = 7_400


class Ratio32:
    """24 kHz to 16 kHz, frame by frame, 1 ms late.

    soxr is better in every other respect, but its streams hold back 10 to 40 ms, and here they
    would be added to every answer. A voice activity detector and a recogniser do not hear the
    difference. Own state: the last samples of the frame before.
    """

    def __init__(self) -> None:
        n = np.arange(_TAPS) - _TAPS // 2
        cutoff = 2 * _CUTOFF_HZ / (_UP * 24_000)
        self._taps = (_UP * cutoff * np.sinc(cutoff * n) * np.kaiser(_TAPS, 7.0)).astype(np.float32)
        self._stuffed: Float32 = np.zeros(_TAPS - 1 + _UP * FRAME_SAMPLES, np.float32)

    def push(self, pcm: Pcm) -> Float32:
        """Float32 (1920,) at 24 kHz to float32 (1280,) at 16 kHz. Raises ShapeError."""
        check_frame("Ratio32.push", pcm)
        self._stuffed[: _TAPS - 1] = self._stuffed[-(_TAPS - 1) :]
        self._stuffed[_TAPS - 1 :: _UP] = pcm
        out: Float32 = np.convolve(self._stuffed, self._taps, mode="valid")[::_DOWN]
        return out


class Ear:
    """One conversation's hearing: a resampler with carried state and a ring of the last 60 s.

    Positions are counted in 16 kHz samples since the conversation began; they never wrap.
    """

    def __init__(self) -> None:
        self._resampler = Ratio32()
        self._ring: Float32 = np.zeros(KEPT_SAMPLES, np.float32)
        self._rest: Float32 = np.zeros(0, np.float32)
        self.n_heard = 0

    def hear(self, pcm: Pcm) -> Iterator[Float32]:
        """Take a frame, float32 (1920,) at 24 kHz; give each 32 ms chunk completed by it."""
        self._rest = np.concatenate([self._rest, self._resampler.push(pcm)])
        while len(self._rest) >= CHUNK_SAMPLES:
            chunk, self._rest = self._rest[:CHUNK_SAMPLES], self._rest[CHUNK_SAMPLES:]
            at = (self.n_heard + np.arange(CHUNK_SAMPLES)) % KEPT_SAMPLES
            self._ring[at] = chunk
            self.n_heard += CHUNK_SAMPLES
            yield chunk

    def since(self, first: int) -> Float32:
        """A copy of all samples from position `first` to now; what is too old is left out."""
        first = max(first, self.n_heard - KEPT_SAMPLES, 0)
        return self._ring[np.arange(first, self.n_heard) % KEPT_SAMPLES]
