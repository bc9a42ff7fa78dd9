"""How far the echo is behind: the delay between what is played and what comes back, by correlation.

A device's time stamps know its buffers; they do not know a Bluetooth link, a display's loudspeaker
or a wrong driver. The correlation does, as soon as a second of speech has been played.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from edge.frame import FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm, check_frame

_EVERY = 4  # samples averaged into one: 6 kHz is enough to find a delay
_RATE_HZ = SAMPLE_RATE_HZ // _EVERY
_PER_FRAME = FRAME_SAMPLES // _EVERY
_WINDOW = 8_192  # 1.37 s at 6 kHz
_LONGEST_MS = 900.0
_LOWEST_HZ, _HIGHEST_HZ = 150, 2_500
_KEEP = 0.95  # of the correlation, per frame: about 1.6 s
_LOOK_EVERY_FRAMES = 4
# A peak this many times the typical value is an echo. Measured: 60 to 280 with an echo (15 at the
# least, 20 dB below a talker), 5 to 16 without; in the first half second anything up to 30.
_LEAST_CONTRAST = 32.0
# The direct sound may be weaker than the strongest reflection.
_DIRECT_PART = 0.6
_SAME_MS = 4.0
_AGREEING_LOOKS = 2
# The delay of one and the same device moves less than this between two looks.
_STEADY_MS = 1.0
_TRACK_LOOKS, _LEAST_TRACK_MS = 64, 6_000
_MOST_PPM = 300.0
_FAR_FLOOR = 10 ** (-50 / 20)


class DelayFinder:
    """One conversation's search for the delay, 0 to 900 ms. Owns its arrays.

    found_ms: the delay last agreed upon by two looks in a row, None before the first.
    """

    def __init__(self) -> None:
        self._near = np.zeros(_WINDOW, np.float32)
        self._far = np.zeros(_WINDOW, np.float32)
        self._cross: NDArray[np.complex128] = np.zeros(_WINDOW + 1, np.complex128)
        bins_hz = np.fft.rfftfreq(2 * _WINDOW, 1 / _RATE_HZ)
        self._in_band = (bins_hz >= _LOWEST_HZ) & (bins_hz <= _HIGHEST_HZ)
        self._n_frames = 0
        self._candidate_ms = -1.0
        self._n_agreeing = 0
        self._track: deque[tuple[float, float]] = deque(maxlen=_TRACK_LOOKS)
        self.found_ms: float | None = None

    @property
    def drift_ppm(self) -> float:
        """By how many microseconds the delay grows in a second; 0 until it is known.

        That is how much faster the microphone's clock runs than the speaker's; from up to 20 s of
        speech.
        """
        if len(self._track) < 2 or self._track[-1][0] - self._track[0][0] < _LEAST_TRACK_MS:
            return 0.0
        at_ms, delay_ms = np.array(self._track).T
        at_ms = at_ms - at_ms.mean()
        slope = float(np.sum(at_ms * delay_ms) / np.sum(at_ms**2))
        return min(max(slope * 1e6, -_MOST_PPM), _MOST_PPM)

    def step(self, near: Pcm, far: Pcm) -> float | None:
        """Take a frame of each, float32 (1920,), and give found_ms. Raises ShapeError.

        Costs next to nothing while nothing is played.
        """
        check_frame("near", near)
        check_frame("far", far)
        for kept, new in ((self._near, near), (self._far, far)):
            kept[:-_PER_FRAME] = kept[_PER_FRAME:]
            kept[-_PER_FRAME:] = new.reshape(-1, _EVERY).mean(1)
        self._n_frames += 1
        if float(np.sqrt(np.mean(np.square(self._far)))) < _FAR_FLOOR:
            return self.found_ms
        # Zeros behind each window: a delay must not wrap round to look like an advance.
        product = np.fft.rfft(self._near, 2 * _WINDOW) * np.conj(
            np.fft.rfft(self._far, 2 * _WINDOW)
        )
        product /= np.abs(product) + 1e-9  # phase alone: pitch would give many false peaks
        self._cross = _KEEP * self._cross + (1 - _KEEP) * product
        if self._n_frames % _LOOK_EVERY_FRAMES == 0:
            self._look()
        return self.found_ms

    def _look(self) -> None:
        """Find the peak of the correlation and believe it once it has come twice."""
        n_delays = int(_LONGEST_MS / 1_000 * _RATE_HZ)
        match = np.abs(np.fft.irfft(np.where(self._in_band, self._cross, 0))[:n_delays])
        highest = float(match.max())
        if highest < _LEAST_CONTRAST * (float(np.median(match)) + 1e-12):
            self._n_agreeing = 0
            return
        delay_ms = _peak(match, int(np.argmax(match >= _DIRECT_PART * highest))) * 1e3 / _RATE_HZ
        same = abs(delay_ms - self._candidate_ms) <= _SAME_MS
        self._n_agreeing = self._n_agreeing + 1 if same else 1
        self._candidate_ms = delay_ms
        if self._n_agreeing >= _AGREEING_LOOKS:
            self._believe(delay_ms)

    def _believe(self, delay_ms: float) -> None:
        if self.found_ms is not None and abs(delay_ms - self.found_ms) > _STEADY_MS:
            self._track.clear()
        self.found_ms = delay_ms
        self._track.append((self._n_frames * FRAME_MS, delay_ms))


def _peak(match: NDArray[np.float64], at: int) -> float:
    """The top of the hill that rises at index `at`, between samples by a parabola."""
    while at + 1 < len(match) and match[at + 1] > match[at]:
        at += 1
    if not 0 < at < len(match) - 1:
        return float(at)
    before, top, after = (float(x) for x in match[at - 1 : at + 2])
    return at + 0.5 * (before - after) / (before - 2 * top + after - 1e-12)
