"""ClearPort: any port, with the assistant's own voice and noise taken out of the microphone.

It stands between the loop and the sound card, so every engine hears the same clean frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge.frame import Pcm, silence
from runtime.sound.echo import EchoCanceller
from runtime.sound.port import AudioPort, PortCounters


@dataclass(frozen=True, slots=True)
class Clarity:
    """What the canceller knows now. erle_db: echo taken away; delay_ms: its way; None: unknown."""

    erle_db: float | None = None
    delay_ms: float | None = None
    converged: bool = False


class ClearPort:
    """Cancels echo in what another port hears. adapt: further treatment of each clean frame."""

    def __init__(
        self,
        port: AudioPort,
        canceller: EchoCanceller,
        adapt: Callable[[Pcm], Pcm] = lambda pcm: pcm,
    ) -> None:
        self._port, self._canceller, self._adapt = port, canceller, adapt
        self._played: Pcm = silence()

    @property
    def clarity(self) -> Clarity:
        """How well echo is cancelled, for people and for the latency line."""
        found = self._canceller
        return Clarity(found.erle_db, found.delay_ms, found.converged)

    def open(self) -> None:
        self._port.open()

    def read(self, *, engine_idle: bool) -> Pcm | None:
        near = self._port.read(engine_idle=engine_idle)
        if near is None:
            return None
        self._canceller.set_delay_ms(self._port.delay_ms())
        played, self._played = self._played, silence()
        return self._adapt(self._canceller.process(near, played))

    def write(self, pcm: Pcm) -> None:
        self._played = pcm
        self._port.write(pcm)

    def flush(self) -> int:
        n_samples = self._port.flush()
        self._canceller.forget(n_samples)
        return n_samples

    def delay_ms(self) -> float | None:
        return self._port.delay_ms()

    def counters(self) -> PortCounters:
        return self._port.counters()

    def close(self, *, completed: bool) -> None:
        self._port.close(completed=completed)
