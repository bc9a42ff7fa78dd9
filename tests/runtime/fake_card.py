"""A sound card made of numbers: it runs on a hand-turned clock and hears a known signal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from edge.errors import DeviceError
from edge.frame import Pcm
from runtime.clock import ManualClock
from runtime.sound.card.portaudio import BLOCK_MS, OnBlock, StreamSpec
from runtime.sound.device_info import DeviceInfo

BLOCK_NS = BLOCK_MS * 1_000_000
RAMP_SAMPLES = 24_000

HEADSET = DeviceInfo("Headset", "Fake", 1, 2, 48_000, False, False)
BUILT_IN = DeviceInfo("Built-in", "Fake", 2, 2, 48_000, True, True)
WEBCAM = DeviceInfo("Webcam", "Fake", 1, 0, 48_000, False, False)

Signal = Callable[[np.ndarray, int], np.ndarray]


def ramp(k: np.ndarray, _rate_hz: int) -> np.ndarray:
    """Every sample within a second has its own value in (0, 1], exact in float32."""
    return (k % RAMP_SAMPLES + 1).astype(np.float32) / np.float32(RAMP_SAMPLES)


def quiet(k: np.ndarray, _rate_hz: int) -> np.ndarray:
    return np.zeros(len(k), np.float32)


class FakeStream:
    """Calls back every 20 ms of the clock while it runs."""

    input_latency_s = 0.02
    output_latency_s = 0.03

    def __init__(
        self, card: FakeCard, spec: StreamSpec, on_block: OnBlock, on_finished: Callable[[], None]
    ) -> None:
        self._card, self.spec = card, spec
        self._on_block, self.on_finished = on_block, on_finished
        self.running = False
        self.closed = False
        self.due_ns = 0
        self.n_heard = 0
        self.played: list[Pcm] = []

    def start(self) -> None:
        self.running = True
        self.due_ns = self._card.clock.now_ns() + BLOCK_NS

    def close(self) -> None:
        self.running, self.closed = False, True

    def tick(self) -> None:
        spec = self.spec
        k = np.arange(self.n_heard, self.n_heard + spec.block_samples)
        mono = self._card.signal(k, spec.rate_hz).astype(np.float32)
        heard = np.repeat(mono, spec.n_inputs)
        to_play = np.full(spec.block_samples * spec.n_outputs, np.nan, np.float32)
        self._on_block(heard, to_play, 0.02, 0.03, False, False)
        self.n_heard += spec.block_samples
        self.played.append(to_play)

    def sound(self) -> Pcm:
        """All that was played, interleaved."""
        return np.concatenate(self.played)


class CardClock(ManualClock):
    """Moving it makes every running stream call back at its due times.

    stall_ns: the next sleep takes this much longer, and nobody is called meanwhile.
    """

    def __init__(self) -> None:
        super().__init__(1_000_000_000)
        self.streams: list[FakeStream] = []
        self.stall_ns = 0

    def sleep_until_ns(self, t_ns: int) -> None:
        if self.stall_ns:
            super().sleep_until_ns(t_ns + self.stall_ns)
            self.stall_ns = 0
            for stream in self.streams:
                stream.due_ns = max(stream.due_ns, self.now_ns() + 1)
        while due := [s for s in self.streams if s.running and s.due_ns <= t_ns]:
            stream = min(due, key=lambda s: s.due_ns)
            super().sleep_until_ns(stream.due_ns)
            stream.due_ns += BLOCK_NS
            stream.tick()
        super().sleep_until_ns(t_ns)

    def pass_ms(self, ms: int) -> None:
        self.sleep_until_ns(self.now_ns() + ms * 1_000_000)


@dataclass
class FakeCard:
    """A Backend. listed: what is plugged in; change it at will. accepts: which formats are taken.

    works: whether anything can be opened. calls: whether what is opened ever calls back.
    attempts_ns: when a fresh look at the devices was asked for.
    """

    clock: CardClock = field(default_factory=CardClock)
    listed: list[DeviceInfo] = field(default_factory=lambda: [BUILT_IN, HEADSET, WEBCAM])
    accepts: Callable[[StreamSpec], bool] = lambda _spec: True
    signal: Signal = ramp
    works: bool = True
    calls: bool = True
    streams: list[FakeStream] = field(default_factory=list)
    attempts_ns: list[int] = field(default_factory=list)

    def devices(self, *, afresh: bool = False) -> list[DeviceInfo]:
        if afresh:
            assert all(not stream.running for stream in self.streams)
            self.attempts_ns.append(self.clock.now_ns())
        return self.listed

    def open_stream(
        self, spec: StreamSpec, on_block: OnBlock, on_finished: Callable[[], None]
    ) -> FakeStream:
        if not self.works or not self.accepts(spec):
            raise DeviceError("refused; try another")
        stream = FakeStream(self, spec, on_block, on_finished)
        self.streams.append(stream)
        if self.calls:
            self.clock.streams.append(stream)
        return stream

    def unplug(self) -> None:
        """No callback comes any more, and nothing can be opened."""
        self.works = False
        for stream in self.streams:
            stream.running = False
