"""AudioPort: where frames come from and where replies go. Files, sound cards and nothing at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edge.frame import Pcm


@dataclass(frozen=True, slots=True)
class PortCounters:
    """What went wrong or waits in a port, counted since it was opened.

    n_dropped_in: whole frames of microphone thrown away, oldest first, because the loop was behind.
    n_dropped_out: whole frames of reply thrown away, oldest first, because they had piled up.
    n_overruns: blocks the sound card delivered while the input ring was full.
    n_underruns: blocks of silence played because no reply was there in time.
    n_reopened: times a device came back after it had vanished.
    n_pending_in, n_pending_out: frames waiting now in the two rings.
    """

    n_dropped_in: int = 0
    n_overruns: int = 0
    n_underruns: int = 0
    n_reopened: int = 0
    n_pending_in: int = 0
    n_pending_out: int = 0
    n_dropped_out: int = 0


def summed(before: PortCounters, now: PortCounters) -> PortCounters:
    """Both together, where one port followed another; what waits, waits in the last."""
    return PortCounters(
        n_dropped_in=before.n_dropped_in + now.n_dropped_in,
        n_dropped_out=before.n_dropped_out + now.n_dropped_out,
        n_overruns=before.n_overruns + now.n_overruns,
        n_underruns=before.n_underruns + now.n_underruns,
        n_reopened=before.n_reopened + now.n_reopened,
        n_pending_in=now.n_pending_in,
        n_pending_out=now.n_pending_out,
    )


class AudioPort(Protocol):
    """One conversation's sound, frame by frame; every method is called from the loop's thread."""

    def open(self) -> None:
        """Begin: devices run, files are open. Raises DeviceError or AudioFileError."""

    def read(self, *, engine_idle: bool) -> Pcm | None:
        """Wait for the next frame boundary and give its float32 (1920,) samples, 24 kHz mono.

        engine_idle: nothing is being heard, thought or said; a file port then goes on to the next
        input or ends. None means the conversation is over. A port that has lost its device gives
        silence on time until it is back.
        """

    def write(self, pcm: Pcm) -> None:
        """Queue one frame of reply, float32 (1920,); never blocks."""

    def flush(self) -> int:
        """Forget what was queued but not played yet; returns the number of samples forgotten."""

    def delay_ms(self) -> float | None:
        """From a sample's write to its return through the microphone, by the device's own time
        stamps; None where there is no device."""

    def counters(self) -> PortCounters:
        """What was dropped, missed and reopened so far."""

    def close(self, *, completed: bool) -> None:
        """End; safe to call twice. completed: False after an error, when nothing is to be kept."""
