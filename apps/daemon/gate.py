"""GatePort: a sound port with a switch. Muted, the microphone is not only ignored but released."""

from __future__ import annotations

import logging
import math
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from apps.daemon.controls import Controls, Hush
from edge.errors import EdgeError
from edge.frame import FRAME_NS, Pcm, silence
from runtime.clock import Clock
from runtime.sound.card.recovery import (
    FIRST_WAIT_NS,
    Action,
    Attempt,
    Phase,
    Recovery,
    advance,
)
from runtime.sound.port import AudioPort, PortCounters, summed

log = logging.getLogger(__name__)

# The microphone is given back this long after the last sound of the assistant, 12 frames a second.
_RELEASE_FRAMES = 25
# "stop" lasts until the engine has been silent for this long, whatever the engine.
_QUIET_FRAMES = 5
_QUIET_LEVEL = 1e-4
_FLOOR_DB = -99.0
# No device is open, and one may be tried at once.
_SHUT = Recovery(Phase.WAITING)


@dataclass(slots=True)
class Levels:
    """Loudness of the last frame, dBFS (RMS); -99 is silence."""

    microphone_db: float = _FLOOR_DB
    speaker_db: float = _FLOOR_DB


def level_db(pcm: Pcm) -> float:
    """RMS of a frame in dBFS, -99 at least."""
    power = float(np.dot(pcm, pcm)) / len(pcm)
    return round(max(_FLOOR_DB, 10 * math.log10(power + 1e-12)), 1)


class GatePort:
    """Any port behind the switches. open_port: makes and opens the port; called on a helper thread
    after a release. trouble: told why there is no sound, and "" once there is. All other methods:
    from the loop's thread.

    The device may be missing at the start, or gone when it is wanted again after a release: that is
    no end of the conversation. It is tried again as a device is that vanished.
    """

    def __init__(
        self,
        open_port: Callable[[], AudioPort],
        controls: Controls,
        clock: Clock,
        trouble: Callable[[str], None] = lambda _why: None,
    ) -> None:
        self._open_port, self._controls, self._clock = open_port, controls, clock
        self._trouble = trouble
        self._port: AudioPort | None = None
        self._news: queue.SimpleQueue[AudioPort | Exception] = queue.SimpleQueue()
        self._recovery = _SHUT
        self._hush = Hush(controls)
        self._n_hushed_quiet = _QUIET_FRAMES
        self._n_idle = 0
        self._due_ns = 0
        self._closed = False
        self._handing_over = threading.Lock()
        self._releasing: threading.Thread | None = None
        self._before = PortCounters()  # of ports that are closed
        self.levels = Levels()

    @property
    def released(self) -> bool:
        """Whether no device is open now."""
        return self._port is None

    def open(self) -> None:
        """Open at once, unless muted; a device that is not there is waited for."""
        self._due_ns = self._clock.now_ns()
        if not self._controls.hears():
            return
        try:
            self._port = self._open_port()
        except EdgeError as error:
            trying, now_ns = replace(_SHUT, phase=Phase.OPENING), self._due_ns
            self._recovery, _ = advance(trying, now_ns, alive=True, attempt=Attempt.FAILED)
            self._not_yet(error, first=True)

    def read(self, *, engine_idle: bool) -> Pcm | None:
        """The next frame; silence on time while muted. None as the port itself gives it."""
        hears = self._controls.hears()
        self._n_idle = self._n_idle + 1 if engine_idle and not hears else 0
        if self._port is not None and self._n_idle > _RELEASE_FRAMES:
            self._release()
        if self._port is None:
            self._wake(hears)
        if self._port is None:
            self._due_ns = max(self._due_ns + FRAME_NS, self._clock.now_ns())
            self._clock.sleep_until_ns(self._due_ns)
            pcm: Pcm | None = silence()
        else:
            pcm = self._port.read(engine_idle=engine_idle)
            self._due_ns = self._clock.now_ns()
            if pcm is not None and not hears:
                pcm = silence()
        self.levels.microphone_db = level_db(pcm) if pcm is not None else _FLOOR_DB
        return pcm

    def write(self, pcm: Pcm) -> None:
        if self._hush():
            self._n_hushed_quiet = 0
            self.flush()
        if self._n_hushed_quiet < _QUIET_FRAMES:
            quiet = float(np.abs(pcm).max()) < _QUIET_LEVEL
            self._n_hushed_quiet = self._n_hushed_quiet + 1 if quiet else 0
            pcm = silence()
        self.levels.speaker_db = level_db(pcm)
        if self._port is not None:
            self._port.write(pcm)

    def flush(self) -> int:
        return 0 if self._port is None else self._port.flush()

    def delay_ms(self) -> float | None:
        return None if self._port is None else self._port.delay_ms()

    def counters(self) -> PortCounters:
        """Over all ports so far."""
        return self._before if self._port is None else summed(self._before, self._port.counters())

    def close(self, *, completed: bool) -> None:
        with self._handing_over:
            self._closed = True
        if self._port is None and not self._news.empty():  # opened too late to be used
            news = self._news.get_nowait()
            self._port = None if isinstance(news, Exception) else news
        if self._port is not None:
            self._before = self._without_queues()
            self._port.close(completed=completed)
            self._port = None

    def _release(self) -> None:
        """Give the device back, beside the loop: closing may take its time."""
        self._before = self._without_queues()
        port, self._port = self._port, None
        assert port is not None
        log.info("muted: the microphone is released")
        self._releasing = threading.Thread(
            target=lambda: port.close(completed=True), daemon=True, name="edge-close-sound"
        )
        self._releasing.start()

    def _without_queues(self) -> PortCounters:
        """What is counted so far, as it is once the open port is closed and nothing waits in it."""
        return replace(self.counters(), n_pending_in=0, n_pending_out=0)

    def _wake(self, hears: bool) -> None:
        """Take the device that a helper has opened, or send a helper for it."""
        news, attempt = None, Attempt.NO_NEWS
        if self._recovery.phase is Phase.OPENING and not self._news.empty():
            news = self._news.get_nowait()
            attempt = Attempt.FAILED if isinstance(news, Exception) else Attempt.OPENED
        elif self._recovery.phase is Phase.WAITING and not hears:
            return
        first = self._recovery.wait_ns == FIRST_WAIT_NS
        self._recovery, action = advance(
            self._recovery, self._clock.now_ns(), alive=True, attempt=attempt
        )
        if action is Action.OPEN:
            threading.Thread(target=self._fetch, daemon=True, name="edge-open-sound").start()
        elif isinstance(news, Exception):
            self._not_yet(news, first=first)
        elif news is not None:
            self._trouble("")
            self._port, self._n_idle, self._recovery = news, 0, _SHUT

    def _not_yet(self, error: Exception, *, first: bool) -> None:
        """Say that there is no device. Raises what no device can be blamed for."""
        if not isinstance(error, EdgeError):
            raise error
        log.log(
            logging.WARNING if first else logging.DEBUG,
            "the microphone cannot be opened yet: %s",
            error,
        )
        self._trouble(f"the microphone cannot be opened yet: {error}")

    def _fetch(self) -> None:
        try:
            if self._releasing is not None:  # a device is not opened beside its own closing
                self._releasing.join()
            port = self._open_port()
        except Exception as error:  # noqa: BLE001  told to the loop's thread, which judges it
            self._news.put(error)
            return
        with self._handing_over:
            late = self._closed
            if not late:
                self._news.put(port)
        if late:
            port.close(completed=True)
