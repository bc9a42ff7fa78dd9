"""The linear part of the canceller: a model of the room, learned while the assistant speaks.

WebRTC's canceller alone is safe but deaf: wherever the loudspeaker is louder than the talker, its
suppressor takes the talker away with the echo. So most of the echo is subtracted here first, which
takes nothing from the talker, and the suppressor then finds little to suppress.

The filter is a partitioned frequency-domain Kalman filter. It knows for each band how sure it is of
the room, so it learns fast at first, slowly later, and by itself stops learning while somebody
else talks, because what it cannot explain counts as noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.errors import ShapeError
from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm, check_frame

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]

_TINY = np.float32(1e-5)
# A filter that has made things louder for this many blocks in a row has lost its way.
_MOST_WORSE_BLOCKS = 30


@dataclass(frozen=True, slots=True)
class LinearConfig:
    """Shape and speed of the filter.

    block: samples learned from at once; it divides 1 920. window_ms: the longest room response.
    keep: how much of the room survives one block, near 1; less follows a drifting clock faster
    and leaves more echo. noise_keep: smoothing of what the filter cannot explain, 0..1.
    sure: how large a room is thought possible at the start, as power of its whole response.
    """

    block: int = 240
    window_ms: int = 240
    keep: float = 0.999
    noise_keep: float = 0.8
    sure: float = 1.0

    @property
    def n_parts(self) -> int:
        """Partitions that the window takes."""
        return -(-self.window_ms * SAMPLE_RATE_HZ // (1_000 * self.block))


class LinearFilter:
    """One conversation's estimate of the way from loudspeaker to microphone.

    Owns its arrays, which change in place: about 1 MB. Not for two threads.
    """

    def __init__(self, config: LinearConfig | None = None) -> None:
        self._config = config or LinearConfig()
        self.forget()

    def forget(self) -> None:
        """Know nothing of the room, as at the start."""
        parts, bins = self._config.n_parts, self._config.block + 1
        self._far: Complex64 = np.zeros((parts, bins), np.complex64)
        self._far_power: Float32 = np.zeros((parts, bins), np.float32)
        self._room: Complex64 = np.zeros((parts, bins), np.complex64)
        self._doubt: Float32 = np.full((parts, bins), self._config.sure / parts, np.float32)
        self._noise: Float32 = np.ones(bins, np.float32)
        self._last_far: Pcm = np.zeros(self._config.block, np.float32)
        self._n_worse = 0

    def process(self, near: Pcm, far: Pcm) -> Pcm:
        """Subtract from one frame of microphone the echo of far, and learn from what is left.

        near, far: float32 (1920,); far must not come later than its echo, nor more than the
        window earlier. Returns float32 (1920,), without any delay. Raises ShapeError.
        """
        check_frame("near", near)
        check_frame("far", far)
        size = self._config.block
        out = np.empty(FRAME_SAMPLES, np.float32)
        for at in range(0, FRAME_SAMPLES, size):
            out[at : at + size] = self._block(near[at : at + size], far[at : at + size])
        return out

    def move(self, n_samples: int, past_far: Pcm) -> None:
        """Go on with far held back by n_samples more (less where negative), keeping the room.

        past_far: float32 (n,), what process() would have been given up to now had it always been
        held back so; n at least the window. Raises ShapeError.
        """
        config, size = self._config, self._config.block
        n_window = config.n_parts * size
        if past_far.ndim != 1 or len(past_far) < n_window:
            raise ShapeError("past_far", got=past_far.shape, want=f"({n_window} or more,)")
        response = np.fft.irfft(self._room, axis=1)[:, :size].reshape(-1)
        moved = np.zeros_like(response)
        if 0 <= n_samples < n_window:
            moved[: n_window - n_samples] = response[n_samples:]
        elif -n_window < n_samples < 0:
            moved[-n_samples:] = response[:n_samples]
        parts = moved.reshape(config.n_parts, size)
        self._room = np.fft.rfft(parts, 2 * size, axis=1).astype(np.complex64)
        recent = past_far[len(past_far) - n_window :]
        for at in range(0, n_window, size):
            self._push(recent[at : at + size])

    def _block(self, near: Pcm, far: Pcm) -> Pcm:
        size = self._config.block
        self._push(far)
        echo = np.fft.irfft((self._far * self._room).sum(0))[size:]
        left: Pcm = (near - echo).astype(np.float32)
        worse = float(np.dot(left, left)) > float(np.dot(near, near))
        self._n_worse = self._n_worse + 1 if worse else 0
        if self._n_worse >= _MOST_WORSE_BLOCKS:
            self.forget()
            return near
        self._learn(left)
        return left

    def _push(self, far: Pcm) -> None:
        """Put one block in front of the far-end history."""
        self._far[1:] = self._far[:-1]
        self._far_power[1:] = self._far_power[:-1]
        self._far[0] = np.fft.rfft(np.concatenate([self._last_far, far]))
        self._far_power[0] = np.abs(self._far[0]) ** 2
        self._last_far = far.copy()

    def _learn(self, left: Pcm) -> None:
        """Move the room towards what explains `left`, by how much it is in doubt."""
        config, size = self._config, self._config.block
        error = np.fft.rfft(np.concatenate([np.zeros(size, np.float32), left]))
        unexplained = np.abs(error).astype(np.float32) ** 2
        self._noise = config.noise_keep * self._noise + (1 - config.noise_keep) * unexplained
        explained = 0.5 * (self._far_power * self._doubt).sum(0)
        gain = self._doubt / (explained + self._noise + _TINY)
        change = np.fft.irfft(gain * np.conj(self._far) * error.astype(np.complex64), axis=1)
        change[:, size:] = 0  # each partition describes `block` samples of the response
        self._room += np.fft.rfft(change, axis=1).astype(np.complex64)
        kept = np.float32(config.keep**2)
        self._doubt *= kept * (1 - 0.5 * gain * self._far_power)
        self._doubt += (1 - kept) * np.abs(self._room) ** 2
