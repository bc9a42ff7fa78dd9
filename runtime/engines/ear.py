"""The ear: 24 kHz frames become 16 kHz chunks, and the last minute is kept for the recogniser."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edge.frame import SAMPLE_RATE_HZ, Pcm
from edge.resample import Resampler
from runtime.engines.roles import CHUNK_SAMPLES, EAR_RATE_HZ

Float32 = NDArray[np.float32]

KEPT_SAMPLES = 60 * EAR_RATE_HZ


class Ear:
    """One conversation's hearing: a resampler with carried state and a ring of the last 60 s.

    Positions are counted in 16 kHz samples since the conversation began; they never wrap.
    """

    def __init__(self) -> None:
        self._resampler = Resampler(SAMPLE_RATE_HZ, EAR_RATE_HZ)
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
