"""FilePort: the user's side of a conversation from sound files, on the loop's clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edge.frame import FRAME_MS, FRAME_NS, Pcm, silence
from edge.wav import open_audio
from runtime.clock import Clock
from runtime.sound.port import PortCounters

# After an input has ended the engine must have nothing to do for this long before the next turn.
_IDLE_FRAMES = 1_000 // FRAME_MS


class FilePort:
    """Plays input files to the engine, one after the other, each a turn of one conversation.

    Silence follows each file until the engine has been idle for a second; then comes the next file,
    or the end. max_wait_s: an engine that never becomes idle is left after this long.
    """

    def __init__(self, inputs: Sequence[Path], clock: Clock, *, max_wait_s: float = 120.0) -> None:
        self._inputs, self._clock = inputs, clock
        self._max_wait_frames = int(max_wait_s * 1000 / FRAME_MS)
        self._frames: Iterator[Pcm] = iter(())
        self._idle = False
        self._due_ns = 0

    def open(self) -> None:
        """Start the clock; the files are opened one by one as their turns come."""
        self._frames = self._play()
        self._due_ns = self._clock.now_ns()

    def read(self, *, engine_idle: bool) -> Pcm | None:
        self._idle = engine_idle
        pcm = next(self._frames, None)
        if pcm is not None:
            self._due_ns += FRAME_NS
            self._clock.sleep_until_ns(self._due_ns)
        return pcm

    def write(self, pcm: Pcm) -> None:
        """Nobody listens; a RecordingPort around this port keeps what is said."""

    def flush(self) -> int:
        return 0

    def delay_ms(self) -> float | None:
        return None

    def counters(self) -> PortCounters:
        return PortCounters()

    def close(self, *, completed: bool) -> None:
        self._frames = iter(())

    def _play(self) -> Iterator[Pcm]:
        for path in self._inputs:
            with open_audio(path) as reader:
                yield from reader
            yield from self._silence_until_idle()

    def _silence_until_idle(self) -> Iterator[Pcm]:
        n_idle = 0
        for _ in range(self._max_wait_frames):
            yield silence()
            n_idle = n_idle + 1 if self._idle else 0
            if n_idle >= _IDLE_FRAMES:
                return
