"""AroundPort: a port that stands around another one and changes some of what it does."""

from __future__ import annotations

from edge.frame import Pcm
from runtime.sound.port import AudioPort, PortCounters


class AroundPort:
    """Passes everything on; subclasses change what passes them."""

    def __init__(self, port: AudioPort) -> None:
        self._port = port

    def open(self) -> None:
        self._port.open()

    def read(self, *, engine_idle: bool) -> Pcm | None:
        return self._port.read(engine_idle=engine_idle)

    def write(self, pcm: Pcm) -> None:
        self._port.write(pcm)

    def flush(self) -> int:
        return self._port.flush()

    def delay_ms(self) -> float | None:
        return self._port.delay_ms()

    def counters(self) -> PortCounters:
        return self._port.counters()

    def close(self, *, completed: bool) -> None:
        self._port.close(completed=completed)
