"""A daemon with a stand-in engine and port: the real loop, server and switches, in no time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from apps.daemon.client import Client, over_pipe
from apps.daemon.daemon import Daemon
from apps.daemon.pipe import PipeServer, pipe_address, secret
from apps.daemon.server import ControlServer, Server
from apps.daemon.start import bind
from apps.privacy.sealed import Sealed
from apps.session import Opened, Session
from edge.config import Config
from edge.errors import DeviceError
from edge.frame import FRAME_SAMPLES, Event, Frame, Pcm, Reply, silence
from runtime.clock import SystemClock
from runtime.engines.engine import Context
from runtime.sound.clear import ClearPort
from runtime.sound.null import NullPort
from runtime.sound.port import PortCounters


class Parrot:
    """Answers every tenth frame for five frames, until told to hush. says: what it answers."""

    def __init__(self, hush: Callable[[], bool], says: Callable[[], str]) -> None:
        self._hush, self._says = hush, says

    def warm_up(self) -> None: ...

    def start(self, *, seed: int, context: Context) -> list[int]:
        return [0]

    def idle(self, state: list[int]) -> bool:
        return True

    def finish(self, state: list[int]) -> None:
        state.clear()

    def step(self, state: list[int], frame: Frame) -> tuple[list[int], Reply]:
        events: list[Event] = []
        if self._hush():
            if state[0]:
                events.append(Event("reply_ended", {"reply": self._says(), "interrupted": True}))
            state[0] = 0
        elif frame.index % 10 == 1:
            latency = {"total": 100.0}
            events.append(Event("reply_started", {"user": "hello", "latency_ms": latency}))
            state[0] = 5
        elif state[0] == 1:
            events.append(Event("reply_ended", {"reply": self._says(), "interrupted": False}))
        pcm = np.full(FRAME_SAMPLES, 0.5, np.float32) if state[0] else silence()
        state[0] = max(0, state[0] - 1)
        return state, Reply(frame.index, pcm, "", tuple(events))


class Card(NullPort):
    """A port that remembers what became of it, and has lost one frame."""

    def __init__(self, world: World) -> None:
        super().__init__(SystemClock())
        self._world = world

    def open(self) -> None:
        if self._world.unplugged:
            raise DeviceError("there is no microphone; plug one in")
        self._world.n_open += 1
        super().open()

    def write(self, pcm: Pcm) -> None:
        self._world.played.append(float(np.abs(pcm).max()))

    def counters(self) -> PortCounters:
        return PortCounters(n_dropped_in=1, n_pending_in=1)

    def close(self, *, completed: bool) -> None:
        self._world.n_open -= 1


@dataclass
class World:
    """What a test sees. loaded: sessions that were opened. pipe: as on Windows."""

    socket: Path
    pipe: bool = False
    daemon: Daemon = field(init=False)
    n_open: int = 0
    unplugged: bool = False
    loaded: list[Config] = field(default_factory=list)
    played: list[float] = field(default_factory=list)
    word: str = "nothing"

    def open(
        self, config: Config, _clock: str, _key: Callable[[], bool], hush: Callable[[], bool]
    ) -> Session:
        self.loaded.append(config)
        return Session(
            config, Parrot(hush, lambda: f"{self.word} said"), SystemClock(), [], lambda: None
        )

    def client(self) -> Client:
        connect = over_pipe if self.pipe else None
        return Client(self.socket, timeout_s=120, connect=connect)  # a busy machine is no fault

    def wait_for(self, what: Callable[[dict[str, object]], bool]) -> dict[str, object]:
        """Watch until a line is so; the daemon says every change by itself."""
        with self.client() as client:
            client.send("watch", levels=True)
            for line in client.lines():
                if what(line):
                    return line
        raise AssertionError("the daemon ended")


@contextmanager
def running(folder: Path, *, unplugged: bool = False, pipe: bool = False) -> Iterator[World]:
    """A daemon on a thread, until the block ends."""
    world = World(folder / "s", pipe, unplugged=unplugged)

    def make_port(_session: Session) -> Opened:
        clear = ClearPort(Card(world), None, mend=False, auto_gain=False)
        return Opened(clear, clear)

    world.daemon = Daemon(Sealed("off"), open=world.open, make_port=make_port)
    server: Server
    if pipe:
        server = PipeServer(pipe_address(world.socket), secret(folder), world.daemon.handle)
    else:
        server = ControlServer(bind(world.socket), world.daemon.handle)
    thread = threading.Thread(target=world.daemon.serve, args=(server,))
    thread.start()
    try:
        yield world
    finally:
        world.daemon.controls.over.set()
        thread.join(20)
    assert not thread.is_alive()
    assert not [t for t in threading.enumerate() if t.name == "edge-open-sound" and t.join(20)]
    assert world.n_open == 0
