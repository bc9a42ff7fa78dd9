"""Bench of the daemon's endurance: hours of talk, commands at random, the card pulled out.

The daemon is the real one: its loop, engine, gate, control socket and history; the user and the
card are simulated. Nothing that a client or a card does may cost a frame or a kept turn.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from apps.bench.quantiles import quantiles
from apps.bench.soak import slope_per_h
from apps.bench.soft_card import IdlePort, SoftCard
from apps.bench.talker import RandomTalker
from apps.daemon.client import Client, DaemonGoneError
from apps.daemon.daemon import Daemon
from apps.daemon.lock import socket_path
from apps.daemon.server import ControlServer
from apps.daemon.start import bind
from apps.privacy.sealed import Sealed
from apps.session import ClockName, Opened, Session, cleared, open_session
from edge.config import Config
from edge.errors import EdgeError
from edge.frame import FRAME_MS, FRAME_NS, Frame, Pcm, Reply
from edge.history import History
from runtime.clock import ManualClock
from runtime.engines.engine import Context, Engine
from runtime.sound.device import DevicePort, DeviceSettings
from runtime.trace import Histogram, rss_mb

_NEAR_FRAMES = 3  # a frame missed so soon after a command counts as caused by it
_SAMPLES = 120
_LIGHT = (
    ({"do": "mute", "on": True}, 1), ({"do": "mute", "on": False}, 3), ({"do": "toggle"}, 1),
    ({"do": "talk", "down": True}, 2), ({"do": "talk", "down": False}, 2), ({"do": "stop"}, 2),
    ({"do": "status"}, 4), ({"do": "history", "last": 50}, 1), ({"do": "watch"}, 1),
)  # fmt: skip
# These load the models again, which takes seconds.
_HEAVY = (
    {"do": "reload"}, {"do": "profile", "name": "cascade"},
    {"do": "set", "key": "talk.prompt", "value": "You are a helpful voice assistant."},
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DaemonPlan:
    """How long, how much. every_s: from one answer to the next question, on average.

    heavy: commands among n_commands that begin a new conversation.
    """

    minutes: float
    clock: ClockName = "fast"
    n_commands: int = 1000
    heavy: int = 10
    n_losses: int = 40
    every_s: float = 120.0
    interrupt_p: float = 0.2
    seed: int = 0

    @property
    def n_frames(self) -> int:
        """Frames of the whole run."""
        return int(self.minutes * 60_000 / FRAME_MS)


@dataclass(slots=True)
class Ledger:
    """What happened, written down in front of the daemon's own books."""

    turns: list[dict[str, str]] = field(default_factory=list)
    n_frames: int = 0
    n_missed: int = 0
    n_missed_near: int = 0
    last_command: int = -(10**9)
    step: Histogram = field(default_factory=Histogram)
    memory: list[tuple[float, float]] = field(default_factory=list)
    every_frames: int = 1

    def expected(self) -> list[tuple[str, str]]:
        """What the history should hold."""
        return [(turn["user"], turn["reply"]) for turn in self.turns if turn["reply"]]

    def take(self, reply: Reply, spent_ns: int) -> None:
        """One frame."""
        for event in reply.events:
            if event.kind == "reply_started":
                self.turns.append({"user": str(event.facts["user"]), "reply": ""})
            elif event.kind == "reply_ended" and self.turns:
                self.turns[-1]["reply"] = str(event.facts["reply"])
        self.step.add(spent_ns)
        if spent_ns > FRAME_NS:
            self.n_missed += 1
            self.n_missed_near += self.n_frames - self.last_command <= _NEAR_FRAMES
        if self.n_frames % self.every_frames == 0:
            self.memory.append((self.n_frames * FRAME_MS / 1000, rss_mb()))
        self.n_frames += 1


@dataclass(slots=True)
class Tapped:
    """An engine whose frames go past the ledger, and past what is to happen at each."""

    inner: Engine[Any]
    ledger: Ledger
    at_frame: Callable[[int], None]

    def warm_up(self) -> None:
        self.inner.warm_up()

    def start(self, *, seed: int, context: Context) -> Any:
        return self.inner.start(seed=seed, context=context)

    def idle(self, state: Any) -> bool:
        return self.inner.idle(state)

    def finish(self, state: Any) -> None:
        self.inner.finish(state)

    def step(self, state: Any, frame: Frame) -> tuple[Any, Reply]:
        began_ns = time.monotonic_ns()
        state, reply = self.inner.step(state, frame)
        self.ledger.take(reply, time.monotonic_ns() - began_ns)
        self.at_frame(self.ledger.n_frames)
        return state, reply


class Commander:
    """Sends commands from a thread of its own, as clients do, each over a new connection."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True, name="bench-commands")
        self.took_ms: list[float] = []
        self.failed: list[str] = []
        self._thread.start()

    def send(self, request: dict[str, Any]) -> None:
        """Have it sent; does not wait."""
        self._waiting.put(request)

    def end(self) -> None:
        """Send what waits, and stop."""
        self._waiting.put(None)
        self._thread.join(60)

    def _run(self) -> None:
        while (request := self._waiting.get()) is not None:
            began_s = time.monotonic()
            try:
                with Client(timeout_s=60) as client:
                    client.ask(**request)
            except (EdgeError, DaemonGoneError) as error:
                self.failed.append(f"{request['do']}: {error}")
                continue
            self.took_ms.append((time.monotonic() - began_s) * 1000)


def run_daemon_soak(
    plan: DaemonPlan,
    sounds: Sequence[Pcm],
    flags: dict[str, object],
    told: Callable[[float, float], None] | None = None,
    opened: Callable[..., Session] = open_session,
) -> dict[str, Any]:
    """Run it; sounds: what the user says. The history must be on, in a folder of its own.

    told: gets minutes done and MiB, now and then. opened: loads models, unless others are given.
    """
    random = np.random.default_rng(plan.seed)
    schedule = _schedule(plan, random)
    ledger = Ledger(every_frames=max(1, plan.n_frames // _SAMPLES))
    commander = Commander()
    talker = RandomTalker(
        sounds, ManualClock(), 10**12, seed=plan.seed, interrupt_p=plan.interrupt_p,
        gap_s=(plan.every_s * 0.5, plan.every_s * 1.5),
    )  # fmt: skip
    cards: list[SoftCard] = []

    def at_frame(number: int) -> None:
        for request in schedule.pop(number, ()):
            if request["do"] in ("unplug", "plug"):
                cards[-1].plugged = request["do"] == "plug"
            else:
                ledger.last_command = number
                commander.send(request)
        if told and number % (10 * ledger.every_frames) == 0:
            told(number * FRAME_MS / 60_000, rss_mb())
        if number >= plan.n_frames:
            daemon.controls.over.set()

    def open_tapped(config: Config, _clock: str, *switches: Callable[[], bool]) -> Session:
        session = opened(config, plan.clock, *switches)
        session.engine = Tapped(session.engine, ledger, at_frame)
        session.close = letting_go(session.close, cards)
        return session

    def make_port(session: Session) -> Opened:
        card = cards[-1] if cards else SoftCard(talker, session.clock)
        if not cards or card.clock is not session.clock:
            # A conversation begins, and without its frames nobody would put the card back.
            card = SoftCard(talker, session.clock, n_opened=card.n_opened)
            cards[:] = [card]
        port = DevicePort(DeviceSettings(), card, backend=card, start_helper=lambda work: work())
        clear = cleared(session.config.audio, IdlePort(port, card), echo=False)
        return Opened(clear, clear)

    daemon = Daemon(Sealed("off"), flags, open=open_tapped, make_port=make_port)
    began_s = time.monotonic()
    daemon.serve(ControlServer(bind(socket_path()), daemon.handle))
    commander.end()
    history = History.open(daemon.config())
    kept = [(turn.user, turn.reply) for turn in history.turns()]
    report = _report(plan, ledger, commander, kept, talker, cards, time.monotonic() - began_s)
    return {**report, "ended_by_error": daemon.n_failed}


def letting_go(close: Callable[[], None], cards: Sequence[SoftCard]) -> Callable[[], None]:
    """Ends a conversation so that no card keeps it: a fast clock knows its engine, and with it all
    its models, which would lie beside those of the next conversation.
    """

    def close_all() -> None:
        for card in cards:
            card.clock = ManualClock()
        close()

    return close_all


def grown_mb(memory: Sequence[float]) -> float:
    """How much more memory the last half of these took than the first half, MiB on average."""
    half = len(memory) // 2
    if not half:
        return 0.0
    return round(float(np.mean(memory[half:]) - np.mean(memory[:half])), 1)


def _schedule(plan: DaemonPlan, random: np.random.Generator) -> dict[int, list[dict[str, Any]]]:
    """What is to happen at which frame: commands, and the card going and coming back."""
    found: dict[int, list[dict[str, Any]]] = {}
    weights = np.array([weight for _, weight in _LIGHT], float)
    last = max(2, plan.n_frames - 50)
    for number, frame in enumerate(random.integers(1, last, plan.n_commands)):
        if number < plan.heavy:
            request: dict[str, Any] = dict(_HEAVY[number % len(_HEAVY)])
        else:
            chosen = int(random.choice(len(_LIGHT), p=weights / weights.sum()))
            request = dict(_LIGHT[chosen][0])
        found.setdefault(int(frame), []).append(request)
    for frame in random.integers(1, last, plan.n_losses):
        away = int(random.integers(5, 125))
        found.setdefault(int(frame), []).append({"do": "unplug"})
        found.setdefault(int(frame) + away, []).append({"do": "plug"})
    return found


def _report(
    plan: DaemonPlan,
    ledger: Ledger,
    commander: Commander,
    kept: list[tuple[str, str]],
    talker: RandomTalker,
    cards: list[SoftCard],
    took_s: float,
) -> dict[str, Any]:
    expected = ledger.expected()
    half = plan.minutes * 30
    late = [(at_s, mb) for at_s, mb in ledger.memory if at_s >= half]
    return {
        "minutes": plan.minutes,
        "clock": plan.clock,
        "took_minutes": round(took_s / 60, 1),
        "frames": ledger.n_frames,
        "missed": ledger.n_missed,
        "missed_after_a_command": ledger.n_missed_near,
        "step_ms": ledger.step.summary(),
        "asked": talker.n_asked,
        "answers": len(ledger.turns),
        "history": {
            "expected": len(expected),
            "kept": len(kept),
            "lost": len([turn for turn in expected if turn not in kept]),
            "same": kept == expected,
            "cut_by_reload": sum(not turn["reply"] for turn in ledger.turns),
        },
        "commands": {
            "sent": plan.n_commands,
            "answered": len(commander.took_ms),
            "failed": commander.failed[:10],
            "took_ms": quantiles(commander.took_ms),
            "most_ms": round(max(commander.took_ms, default=0.0), 1),
        },
        "losses": plan.n_losses,
        "conversations": plan.heavy + 1,
        "cards_opened": sum(card.n_opened for card in cards),
        "rss_slope_mb_per_h": slope_per_h(late),
        "rss_grown_mb": grown_mb([mb for _, mb in late]),
        "rss_mb": {
            "second_half_first": round(late[0][1], 1) if late else None,
            "second_half_last": round(late[-1][1], 1) if late else None,
            "most": round(max(mb for _, mb in ledger.memory), 1),
        },
        "memory": [[round(at_s), round(mb, 1)] for at_s, mb in ledger.memory],
    }
