"""NullPort: silence in, nothing out, on time; for benchmarks and endurance runs."""

from __future__ import annotations

from edge.frame import FRAME_NS, Pcm, check_frame, silence
from runtime.clock import Clock
from runtime.sound.late import catch_up
from runtime.sound.port import PortCounters


class NullPort:
    """Gives a frame of silence every 80 ms of its clock, as a microphone in a quiet room would.

    A loop that falls behind finds frames waiting, and beyond max_behind_frames they are dropped,
    exactly as with a device. n_frames: how many it gives before it ends; None is for ever.
    """

    def __init__(
        self, clock: Clock, *, n_frames: int | None = None, max_behind_frames: int = 3
    ) -> None:
        self._clock, self._n_left, self._max_behind = clock, n_frames, max_behind_frames
        self._due_ns = 0
        self._n_dropped = 0

    def open(self) -> None:
        """Begin: the first frame is complete 80 ms from now."""
        self._due_ns = self._clock.now_ns() + FRAME_NS

    def read(self, *, engine_idle: bool) -> Pcm | None:
        """Wait until the frame is due and give silence; None after n_frames."""
        if self._n_left == 0:
            return None
        if self._n_left is not None:
            self._n_left -= 1
        n_drop = catch_up(self._n_complete(), self._max_behind)
        self._n_dropped += n_drop
        self._due_ns += n_drop * FRAME_NS
        self._clock.sleep_until_ns(self._due_ns)
        self._due_ns += FRAME_NS
        return silence()

    def write(self, pcm: Pcm) -> None:
        """Forget one frame, float32 (1920,). Raises ShapeError."""
        check_frame("reply", pcm)

    def flush(self) -> int:
        """Nothing ever waits: 0."""
        return 0

    def delay_ms(self) -> float | None:
        """Nothing comes back: None."""
        return None

    def counters(self) -> PortCounters:
        """Frames dropped and waiting."""
        return PortCounters(n_dropped_in=self._n_dropped, n_pending_in=self._n_complete())

    def close(self, *, completed: bool) -> None:
        """Nothing to release."""

    def _n_complete(self) -> int:
        """Frames whose time has come and which were not read."""
        return max(0, (self._clock.now_ns() - self._due_ns) // FRAME_NS + 1)
