"""Frames over one open link: what waits before the speaker, what is dropped when late."""

from __future__ import annotations

import numpy as np

from edge.frame import FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm
from runtime.sound.card.link import Link
from runtime.sound.late import catch_up, recentre
from runtime.sound.port import PortCounters

_NS_PER_S = 1_000_000_000
# Of the whole frame: less than this off the cushion is the ordinary unrest of threads and blocks.
_TOLERANCE_SAMPLES = FRAME_SAMPLES // 2
# A frame with no sample above this (-60 dBFS) may be lengthened or shortened unheard.
_QUIET = 1e-3


class Exchange:
    """Takes frames from a link and gives it replies, within bounds, and counts what went wrong.

    cushion_samples: what should wait in front of the speaker when a reply is written.
    max_behind_frames: frames that may wait in either direction beyond that before the oldest are
    dropped.
    """

    def __init__(self, link: Link, *, cushion_samples: int, max_behind_frames: int) -> None:
        self.link = link
        self._n_cushion, self._max_behind = cushion_samples, max_behind_frames
        self._n_ahead = cushion_samples  # what waited when the last reply was written
        self._n_replied = 0  # samples of reply queued since the last flush
        self._n_dropped_in = self._n_dropped_out = 0
        self._n_overruns_before = self._n_underruns_before = 0

    def begin(self) -> None:
        """Forget what was heard while nobody listened, lay the cushion, count from here.

        The first reply comes a frame after this, so that much lies on top of the cushion.
        """
        self.link.input.clear()
        output = self.link.output
        n_old = output.n_pending
        output.push_silence(self._n_cushion + FRAME_SAMPLES)
        output.void_oldest(n_old)
        self._n_overruns_before = self.link.input.n_overruns
        self._n_underruns_before = output.n_underruns

    def take_ready(self) -> Pcm | None:
        """Give the next frame, float32 (1920,), if it is complete; drop what piled up before it."""
        n_ready = self.link.input.pull()
        n_drop = catch_up(n_ready // FRAME_SAMPLES, self._max_behind)
        if n_drop:
            self.link.input.drop(n_drop * FRAME_SAMPLES)
            self._n_dropped_in += n_drop
        return self.link.input.take_frame() if n_ready >= FRAME_SAMPLES else None

    def due_ns(self) -> int:
        """When the next frame should be complete, by the card's last block and what is missing."""
        n_missing = max(0, FRAME_SAMPLES - self.link.input.n_ready)
        return self.link.last_heard_ns + n_missing * _NS_PER_S // SAMPLE_RATE_HZ

    def write(self, pcm: Pcm) -> None:
        """Queue one frame of reply, float32 (1920,), and keep the queue at its cushion.

        A quiet frame is made longer or shorter for that. When none comes, what waits beyond the
        cushion and max_behind_frames is dropped, oldest first.
        """
        output = self.link.output
        n_pending = output.n_pending
        n_behind = max(0, n_pending - self._n_cushion) // FRAME_SAMPLES
        if n_drop := catch_up(n_behind, self._max_behind):
            n_pending -= output.void_oldest(n_drop * FRAME_SAMPLES)
            self._n_dropped_out += n_drop
        if float(np.abs(pcm).max()) < _QUIET:
            n_more = recentre(n_pending, self._n_cushion, n_tolerance=_TOLERANCE_SAMPLES)
            if n_more > 0:
                output.push_silence(n_more)
                n_pending += n_more
            elif n_more < 0:
                pcm = pcm[-n_more:]
        self._n_ahead = n_pending
        self._n_replied += len(pcm)
        output.push(pcm)

    def flush(self) -> int:
        """Put silence in the place of what waits; returns how many samples of reply were lost.

        As much silence as sound, within the cushion's bounds: the echo's delay stays as it was and
        the next reply is not late.
        """
        output = self.link.output
        n_pending = output.n_pending
        output.push_silence(min(n_pending, self._n_cushion + FRAME_SAMPLES))
        output.void_oldest(n_pending)
        n_lost = min(n_pending, self._n_replied)
        self._n_replied = 0
        return n_lost

    def delay_ms(self) -> float:
        """From the write of a sample until read() returns a frame that begins with it.

        What waits before it, the card's way out and way in, and the time to fill a frame.
        """
        n_queue_ms = self._n_ahead * 1_000 / SAMPLE_RATE_HZ
        lag_ms = (self.link.output_lag_s + self.link.input_lag_s) * 1_000
        return n_queue_ms + lag_ms + FRAME_MS

    def counters(self) -> PortCounters:
        """Count this link alone, from begin() on."""
        return PortCounters(
            n_dropped_in=self._n_dropped_in,
            n_dropped_out=self._n_dropped_out,
            n_overruns=self.link.input.n_overruns - self._n_overruns_before,
            n_underruns=self.link.output.n_underruns - self._n_underruns_before,
            n_pending_in=self.link.input.n_ready // FRAME_SAMPLES,
            n_pending_out=self.link.output.n_pending // FRAME_SAMPLES,
        )
