"""The daemon: one conversation after the other, told over the control socket what to do.

Its main thread is the frame loop. What goes wrong with sound or models does not end it: it says so,
waits for "reload" (or for the device to come back), and tries again.
"""

from __future__ import annotations

import gc
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from apps.daemon.board import Board
from apps.daemon.controls import Controls, Hush
from apps.daemon.gate import GatePort
from apps.daemon.notify import Notifier
from apps.daemon.permissions import Permission, check_model
from apps.daemon.profiles import profile_settings
from apps.daemon.protocol import SETTABLE, VERSION, ProtocolError, Request
from apps.daemon.server import MAX_OUT_BYTES, Server
from apps.privacy.sealed import Sealed
from apps.session import Opened, Session, TurnLog, open_port, open_session
from edge.config import Config, load_config, parse_value
from edge.errors import EdgeError
from edge.frame import Frame, Reply
from edge.history import History, purge_prompts
from edge.paths import prompt_cache_dir
from runtime.heap import give_back
from runtime.sound.port import AudioPort, PortCounters
from runtime.trace import Trace

log = logging.getLogger(__name__)

_RETRY_S = 5.0
_WAIT_S = 0.25
_KEPT_TURNS = 50
_SHOWN_TURNS = 20


@dataclass(slots=True)
class Daemon:
    """Everything that one daemon owns. flags: settings from its command line.

    open: loads models and gives the session; make_port: the sound (tests and benches give others).
    n_failed: conversations that an error ended, or did not let begin.
    """

    sealed: Sealed
    flags: Mapping[str, object] = field(default_factory=dict)
    permissions: dict[str, Permission] = field(default_factory=dict)
    notifier: Notifier = field(default_factory=lambda: Notifier({}))
    open: Callable[..., Session] = open_session
    make_port: Callable[[Session], Opened] = lambda session: open_port(
        session, (), None, stereo=False
    )
    controls: Controls = field(default_factory=Controls)
    board: Board = field(init=False)
    server: Server | None = None
    history: bool = False
    n_failed: int = 0

    def __post_init__(self) -> None:
        self.board = Board(self.controls)

    def serve(self, server: Server) -> None:
        """Hold conversations until "quit"; the server is started and closed here."""
        self.server = server
        self.board.tell = server.tell
        server.start()
        try:
            while not self.controls.over.is_set():
                self.controls.again.clear()
                self._purge()
                try:
                    self._one_session()
                except EdgeError as error:
                    self._failed(error)
        finally:
            self._purge()
            server.close()

    def handle(self, request: Request) -> dict[str, Any]:
        """Carry out one request; on the server's thread. Raises EdgeError."""
        facts = request.facts
        if request.do == "history":
            return self._history(facts.get("words", ""), facts.get("last", _SHOWN_TURNS))
        if request.do == "set":
            self._set(facts["key"], facts["value"])
        elif request.do == "fetch":
            self._fetch(facts["model"])
        else:
            self._switch(request.do, facts)
        if self.server is not None:
            self.board.levels_wanted = self.server.levels_wanted
        self.board.show()
        if request.do in ("status", "watch"):
            return self.status()
        controls = self.controls
        return {"muted": controls.muted, "talk": controls.talk_down, "state": self.board.state}

    def _switch(self, do: str, facts: Mapping[str, Any]) -> None:
        """Whatever is only a switch that the loop looks at. Raises ConfigError."""
        controls = self.controls
        if do == "mute":
            controls.muted = facts.get("on", True)
        elif do == "toggle":
            controls.muted = not controls.muted
        elif do == "talk":
            controls.talk_down = facts.get("down", not controls.talk_down)
        elif do == "stop":
            controls.n_hushed += 1
        elif do == "profile":
            profile_settings(facts["name"])
            controls.profile = facts["name"]
            controls.again.set()
        elif do == "purge":
            controls.purge.set()
            controls.again.set()
        elif do == "reload":
            controls.again.set()
        elif do == "quit":
            controls.over.set()

    def status(self) -> dict[str, Any]:
        """The whole of `status`."""
        for permission in self.permissions.values():
            self._permission_news(permission)
        return {
            "version": VERSION,
            **self.board.status(),
            "privacy": {
                "level": self.sealed.level,
                "mechanisms": list(self.sealed.mechanisms),
                "reachable": list(self.sealed.reachable),
                "notes": list(self.sealed.notes),
                "permissions": [each.facts() for each in self.permissions.values()],
            },
            "history": self.history,
            "clients": self.server.n_clients if self.server else 0,
        }

    def config(self) -> Config:
        """The settings in force: flags, then what clients set, the profile, files, defaults."""
        profile = profile_settings(self.controls.profile) if self.controls.profile else {}
        return load_config({**profile, **self.controls.settings, **self.flags}).config

    def _one_session(self) -> None:
        """Load, and hold one conversation."""
        began_s = time.monotonic()
        self.board.enter("loading")
        self.notifier.loading()
        config = self.config()
        self.history = config.history.enabled
        hush = Hush(self.controls)
        session = self.open(config, "real", lambda: self.controls.talk_down, hush)
        try:
            self._converse(session, began_s)
        finally:
            session.close()
            # What is loaded next should not have to find room beside what was loaded now.
            self.board.counters, self.board.clarity = PortCounters, dict
            del session
            gc.collect()
            give_back()

    def _converse(self, session: Session, began_s: float) -> None:
        board = self.board
        opened: list[Opened] = []

        def fresh_port() -> AudioPort:
            made = self.make_port(session)
            made.port.open()
            opened[:] = [made]
            return made.port

        gate = GatePort(fresh_port, self.controls, session.clock, board.trouble)
        turns = TurnLog()
        board.levels, board.counters = gate.levels, gate.counters
        board.clarity = lambda: asdict(opened[0].clarity()) if opened else {}
        board.engine, board.trace = session.config.talk.engine, Trace()

        def observe(frame: Frame, reply: Reply) -> None:
            if frame.index == 0:
                board.ready_s = time.monotonic() - began_s
                board.enter("idle", board.error)
                self.notifier.working(board.error or "ready")
            board.observe(frame, reply)
            self.notifier.alive()
            turns.forget(_KEPT_TURNS)

        session.talk(
            gate, trace=board.trace, log=turns, stop=self.controls.interrupted, also=observe
        )

    def _failed(self, error: EdgeError) -> None:
        """Say what is wrong and wait for a reason to try again."""
        log.error("%s", error)
        self.n_failed += 1
        self.board.enter("error", str(error))
        self.notifier.working(str(error))
        until_s = time.monotonic() + _RETRY_S
        while time.monotonic() < until_s and not self.controls.interrupted():
            self.notifier.alive()
            self.controls.over.wait(_WAIT_S)

    def _set(self, key: str, value: object) -> None:
        if key not in SETTABLE:
            raise ProtocolError(f"{key} is not for clients; there are {', '.join(SETTABLE)}")
        self.controls.settings[key] = parse_value(key, value, "control socket")
        self.controls.again.set()

    def _fetch(self, model: str) -> None:
        permission = self.permissions.get("fetch-models")
        if permission is None:
            raise ProtocolError(
                "this daemon may not fetch models: edge config set privacy.allow fetch-models and "
                f"start it again, or run: edge models fetch {model}"
            )
        check_model(model)
        permission.begin(model)
        self.board.tell("fetch", {"model": model, "state": "begun"})

    def _history(self, words: str, last: int) -> dict[str, Any]:
        """What was kept: the newest that fit into an answer."""
        found = [asdict(each) for each in self._kept().recent(words, last=last)]
        while found and len(json.dumps(found)) > MAX_OUT_BYTES // 2:
            del found[0]
        return {"enabled": self.history, "turns": found}

    def _kept(self) -> History:
        return History.open(self.config())

    def _purge(self) -> None:
        """Remove what was kept, if that was asked for. No conversation goes on now: none that has
        it in its memory, and none that could write down its last turn afterwards.
        """
        if not self.controls.purge.is_set():
            return
        self.controls.purge.clear()
        facts: dict[str, Any] = {"turns": 0, "prompts": 0, "error": ""}
        try:
            facts["turns"] = self._kept().purge()
            facts["prompts"] = purge_prompts(prompt_cache_dir())
        except EdgeError as error:
            facts["error"] = str(error)
        if self.server is not None:
            self.server.forget()
        self.board.tell("purged", facts)

    def _permission_news(self, permission: Permission) -> None:
        model = permission.busy
        news = permission.poll()
        if news is not None:
            state = "failed" if "fault" in news else "done"
            facts = {"model": model, "state": state, "error": news.get("fault", "")}
            self.board.tell("fetch", facts)
