"""DevicePort: a conversation through the sound card.

Latency it adds to the card's own: 80 ms to fill a frame, and the cushion, 80 ms unless set
otherwise. The cushion is what still waits to be played when the next reply arrives, that is, how
late the loop may be without a gap being heard.

Late policy: see late.py. A device that vanishes is given up after three frames without a callback,
read() then gives silence on time, and a helper thread tries to open it again (card/recovery.py).
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from edge.errors import ConfigError, DeviceError, EdgeError
from edge.frame import FRAME_NS, SAMPLE_RATE_HZ, Pcm, check_frame, silence
from runtime.clock import Clock
from runtime.sound.card.connect import Wish, connect
from runtime.sound.card.exchange import Exchange
from runtime.sound.card.link import Link
from runtime.sound.card.portaudio import Backend, PortAudio
from runtime.sound.card.recovery import Action, Attempt, Recovery, advance, is_alive
from runtime.sound.port import PortCounters, summed

log = logging.getLogger(__name__)

# read() sleeps until just before the frame should be complete, then looks again this often.
_MARGIN_NS = 2_000_000
_POLL_NS = 1_500_000
_CLOSE_WAIT_S = 2.0
_LEAST_CUSHION_MS = 20
_MOST_CUSHION_MS = 1_000


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """Which devices and how much patience. Raises ConfigError.

    wish: device names. cushion_ms: sound kept in front of the speaker, 20..1000. max_behind_frames:
    frames that may wait in either direction before the oldest are dropped, 1..20. patience_frames:
    frames without a callback after which the device is taken for gone, 1..20.
    """

    wish: Wish = field(default_factory=Wish)
    cushion_ms: int = 80
    max_behind_frames: int = 3
    patience_frames: int = 3

    def __post_init__(self) -> None:
        for name, low, high in (
            ("cushion_ms", _LEAST_CUSHION_MS, _MOST_CUSHION_MS),
            ("max_behind_frames", 1, 20),
            ("patience_frames", 1, 20),
        ):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be {low} to {high}")


def in_thread(work: Callable[[], None]) -> None:
    """Run work on a thread of its own that does not keep the process alive."""
    threading.Thread(target=work, name="edge-sound-device", daemon=True).start()


class DevicePort:
    """AudioPort on a real device; survives its loss.

    clock: real time. backend: the sound library, PortAudio unless given. start_helper: runs what
    may hang, opening and closing devices, beside the loop. (Tests give stand-ins for all three.)
    """

    def __init__(
        self,
        settings: DeviceSettings,
        clock: Clock,
        *,
        backend: Backend | None = None,
        start_helper: Callable[[Callable[[], None]], None] = in_thread,
    ) -> None:
        self._settings, self._clock = settings, clock
        self._backend, self._start_helper = backend, start_helper
        self._exchange: Exchange | None = None
        self._lost: Link | None = None  # given up, not closed yet
        self._recovery = Recovery()
        # At most one attempt is under way, so at most one piece of news waits here.
        self._news: queue.SimpleQueue[Link | Exception] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._begun = False
        self._due_ns = 0
        self._asked_ns = 0  # when the read() under way began
        self._overslept_ns = 0  # in it
        self._before = PortCounters()  # of links that are gone

    def open(self) -> None:
        """Open microphone and speaker and see that they run.

        Raises DeviceError: no such device, refused, no PortAudio; MissingPackageError.
        """
        if self._backend is None:
            self._backend = PortAudio()
        link = self._first_link(self._backend)
        log.info("sound from %s, to %s", link.source.name, link.sink.name)
        self._exchange = self._exchange_over(link)

    def read(self, *, engine_idle: bool) -> Pcm | None:
        """Wait for the card's next frame, float32 (1920,); silence on time while there is no card.

        Never None: a live conversation ends when the caller stops it.
        """
        if not self._begun and self._exchange is not None:
            self._exchange.begin()
            self._begun = True
        self._asked_ns, self._overslept_ns = self._clock.now_ns(), 0
        self._tend()
        while (exchange := self._exchange) is not None:
            pcm = exchange.take_ready()
            now_ns = self._clock.now_ns()
            if pcm is not None:
                self._due_ns = now_ns
                return pcm
            wake_ns = max(now_ns + _POLL_NS, exchange.due_ns() - _MARGIN_NS)
            self._clock.sleep_until_ns(wake_ns)
            self._overslept_ns += self._clock.now_ns() - wake_ns
            self._tend()
        self._due_ns = max(self._due_ns + FRAME_NS, self._clock.now_ns())
        self._clock.sleep_until_ns(self._due_ns)
        return silence()

    def write(self, pcm: Pcm) -> None:
        """Queue one frame, float32 (1920,); forgotten while there is no card. Raises ShapeError."""
        check_frame("reply", pcm)
        if self._exchange is not None:
            self._exchange.write(pcm)

    def flush(self) -> int:
        """Let silence follow at once; what is in the card's own buffer (60-80 ms) still sounds."""
        return 0 if self._exchange is None else self._exchange.flush()

    def delay_ms(self) -> float | None:
        """See AudioPort; None while there is no card."""
        return None if self._exchange is None else self._exchange.delay_ms()

    def counters(self) -> PortCounters:
        """Count over all links so far, start-up left out."""
        now = PortCounters()
        if self._exchange is not None and self._begun:
            now = self._exchange.counters()
        return replace(summed(self._before, now), n_reopened=self._recovery.n_reopened)

    def close(self, *, completed: bool) -> None:
        """Release the microphone and the speaker; safe to call twice.

        Waits 2 s at most: a dead device must not keep the program from ending.
        """
        self._closing.set()
        links = [self._exchange.link] if self._exchange is not None else []
        links += [self._lost] if self._lost is not None else []
        if self._exchange is not None:
            self._before = replace(self.counters(), n_pending_in=0, n_pending_out=0)
        self._exchange = self._lost = None
        if not links:
            return
        done = threading.Event()

        def release() -> None:
            for link in links:
                link.close()
            done.set()

        self._start_helper(release)
        if not done.wait(_CLOSE_WAIT_S):
            log.warning("the sound device does not answer; it is released when the program ends")

    def _first_link(self, backend: Backend) -> Link:
        """PortAudio lists devices once in a process: what was plugged in since takes a new look."""
        wish, clock = self._settings.wish, self._clock
        try:
            return connect(backend, wish, clock, afresh=False, may_fall_back=False)
        except DeviceError as error:
            log.debug("looking for devices anew: %s", error)
            return connect(backend, wish, clock, afresh=True, may_fall_back=False)

    def _exchange_over(self, link: Link) -> Exchange:
        return Exchange(
            link,
            cushion_samples=self._settings.cushion_ms * SAMPLE_RATE_HZ // 1_000,
            max_behind_frames=self._settings.max_behind_frames,
        )

    def _tend(self) -> None:
        """Look whether the device still runs, or is back, and act on it."""
        now_ns = self._clock.now_ns()
        news = None if self._news.empty() else self._news.get_nowait()
        self._recovery, action = advance(
            self._recovery, now_ns, alive=self._alive(now_ns), attempt=_attempt(news)
        )
        if action is Action.GIVE_UP and self._exchange is not None:
            log.warning("the sound device has stopped; trying to open it again")
            self._before = replace(self.counters(), n_pending_in=0, n_pending_out=0)
            self._lost, self._exchange = self._exchange.link, None
        elif action is Action.OPEN:
            left, self._lost = self._lost, None
            self._start_helper(lambda: self._try_again(left))
        elif action is Action.RESUME and isinstance(news, Link):
            log.warning("sound is back: from %s, to %s", news.source.name, news.sink.name)
            self._exchange = self._exchange_over(news)
            self._exchange.begin()

    def _alive(self, now_ns: int) -> bool:
        if self._exchange is None:
            return False
        link = self._exchange.link
        # Patience counts only time in which this thread was ready to hear: a step that held the
        # interpreter, or a machine too busy to wake us, held the callback up as well.
        return is_alive(
            now_ns - self._overslept_ns,
            last_block_ns=max(link.last_block_ns, self._asked_ns),
            finished=link.finished,
            patience_ns=self._settings.patience_frames * FRAME_NS,
        )

    def _try_again(self, left: Link | None) -> None:
        """Close what is left, open by name again, and leave word. On the helper's thread."""
        news: Link | Exception
        try:
            if left is not None:
                left.close()
            assert self._backend is not None
            wish = self._settings.wish
            news = connect(self._backend, wish, self._clock, afresh=True, may_fall_back=True)
        except Exception as error:  # noqa: BLE001  told to the loop's thread, which judges it
            news = error
        if self._closing.is_set() and isinstance(news, Link):
            news.close()
        else:
            self._news.put(news)


def _attempt(news: Link | Exception | None) -> Attempt:
    """Judge an attempt by its news. Raises what no device can be blamed for."""
    if news is None:
        return Attempt.NO_NEWS
    if isinstance(news, Link):
        return Attempt.OPENED
    if not isinstance(news, EdgeError):
        raise news
    log.debug("not yet: %s", news)
    return Attempt.FAILED
