"""A sound card of software: the simulated user behind it, pulled out and put back at will.

What is under it is the real port (runtime/sound/device.py) with its rings, its noticing that a
device has gone and its opening it again. Blocks flow while somebody sleeps on the card's clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from apps.bench.talker import RandomTalker
from edge.errors import DeviceError
from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm, silence
from runtime.clock import Clock
from runtime.sound.around import AroundPort
from runtime.sound.card.portaudio import BLOCK_MS, OnBlock, StreamSpec
from runtime.sound.device_info import DeviceInfo
from runtime.sound.port import AudioPort

_BLOCK_NS = BLOCK_MS * 1_000_000
_BLOCK_SAMPLES = SAMPLE_RATE_HZ * BLOCK_MS // 1000
_INFO = DeviceInfo("Software (hw:0,0)", "Software", 1, 1, SAMPLE_RATE_HZ, True, True)


@dataclass(slots=True)
class SoftCard:
    """Backend with one device; also the clock of the port on it. clock: of the conversation."""

    talker: RandomTalker
    clock: Clock
    plugged: bool = True
    idle: bool = True
    n_opened: int = 0
    _stream: SoftStream | None = None
    _heard: Pcm = field(default_factory=silence)
    _played: Pcm = field(default_factory=silence)
    _at: int = FRAME_SAMPLES
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def devices(self, *, afresh: bool = False) -> list[DeviceInfo]:
        return [_INFO] if self.plugged else []

    def open_stream(
        self, spec: StreamSpec, on_block: OnBlock, on_finished: Callable[[], None]
    ) -> SoftStream:
        if not self.plugged:
            raise DeviceError("the card was pulled out")
        if (spec.rate_hz, spec.n_inputs, spec.n_outputs) != (SAMPLE_RATE_HZ, 1, 1):
            raise DeviceError("24 kHz, one channel each way")
        self.n_opened += 1
        return SoftStream(self, on_block)

    def begin(self, stream: SoftStream) -> None:
        """Let blocks flow to a stream, from now on."""
        with self._lock:
            self._stream, stream.due_ns = stream, self.clock.now_ns() + _BLOCK_NS

    def end(self, stream: SoftStream) -> None:
        """No more blocks for it."""
        with self._lock:
            if self._stream is stream:
                self._stream = None

    def now_ns(self) -> int:
        return self.clock.now_ns()

    def sleep_until_ns(self, t_ns: int) -> None:
        while (stream := self._stream) is not None and self.plugged and stream.due_ns <= t_ns:
            self.clock.sleep_until_ns(stream.due_ns)
            with self._lock:
                if self._stream is stream and self.plugged:
                    stream.due_ns += _BLOCK_NS
                    self._block(stream)
        self.clock.sleep_until_ns(t_ns)

    def _block(self, stream: SoftStream) -> None:
        """20 ms to the port and from it; each whole frame goes past the talker."""
        if self._at >= FRAME_SAMPLES:
            self.talker.write(self._played)
            heard = self.talker.read(engine_idle=self.idle)
            self._heard = silence() if heard is None else heard
            self._played, self._at = silence(), 0
        part = slice(self._at, self._at + _BLOCK_SAMPLES)
        to_play = np.zeros(_BLOCK_SAMPLES, np.float32)
        stream.on_block(self._heard[part], to_play, 0.02, 0.03, False, False)
        self._played[part] = to_play
        self._at += _BLOCK_SAMPLES


@dataclass(slots=True)
class SoftStream:
    """One open stream of it."""

    card: SoftCard
    on_block: OnBlock
    due_ns: int = 0
    input_latency_s: float = 0.02
    output_latency_s: float = 0.03

    def start(self) -> None:
        self.card.begin(self)

    def close(self) -> None:
        self.card.end(self)


class IdlePort(AroundPort):
    """A port that tells the card whether the engine is idle: what a user would hear."""

    def __init__(self, port: AudioPort, card: SoftCard) -> None:
        super().__init__(port)
        self._card = card

    def read(self, *, engine_idle: bool) -> Pcm | None:
        self._card.idle = engine_idle
        return super().read(engine_idle=engine_idle)
