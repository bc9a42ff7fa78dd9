"""What a sealed daemon may still have done for it: one unsealed process for each named permission.

The process is started before the seal, does one thing, and is told in one word what to do it with.
`[privacy] allow` names the permissions; `status` shows them and how often each was used.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from edge.errors import ConfigError, EdgeError, UsageError
from edge.lock import read_lock

_ANSWER_BYTES = 65_536
_LONGEST_DESCRIPTOR = 4096


def _fetch_models(model: str) -> dict[str, Any]:
    """Fetch a model that models.lock names: from its pinned sources, against its sha256."""
    command = [sys.executable, "-m", "apps.cli"]
    if getattr(sys, "frozen", False):
        command = [sys.executable]
    done = subprocess.run(
        [*command, "models", "fetch", model], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return {"fault": (done.stderr.strip().splitlines() or ["no reason given"])[-1]}
    return {"fetched": model}


WORKS: Mapping[str, Callable[[str], dict[str, Any]]] = MappingProxyType(
    {"fetch-models": _fetch_models}
)


@dataclass(slots=True)
class Permission:
    """One permission in force. pid: of the process that holds it. n_used: requests so far."""

    name: str
    pid: int
    line: socket.socket
    n_used: int = 0
    busy: str = ""

    def begin(self, word: str) -> None:
        """Ask for the work; the answer comes later. Raises UsageError while it is busy."""
        self.poll()
        if self.busy:
            raise UsageError(f"{self.name} is busy with {self.busy}")
        self.line.sendall(word.encode() + b"\n")
        self.n_used, self.busy = self.n_used + 1, word

    def poll(self) -> dict[str, Any] | None:
        """What came of the work, once; None while it goes on or nothing was asked."""
        if not self.busy:
            return None
        try:
            data = self.line.recv(_ANSWER_BYTES)
        except BlockingIOError:
            return None
        self.busy = ""
        if not data:
            return {"fault": f"the process of {self.name} has gone"}
        return dict(json.loads(data))

    def facts(self) -> dict[str, Any]:
        """For `status`."""
        return {"name": self.name, "pid": self.pid, "used": self.n_used, "busy": self.busy}


def start_permissions(names: Iterable[str]) -> dict[str, Permission]:
    """Fork a process for each permission. Before the seal and before any thread.

    Raises ConfigError for a name that is none.
    """
    found = {}
    for name in names:
        if name not in WORKS:
            raise ConfigError(
                f"privacy.allow: {name} is no permission; there are {', '.join(WORKS)}"
            )
        ours, its = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                _serve(its, WORKS[name])
            finally:
                os._exit(0)
        its.close()
        ours.setblocking(False)
        found[name] = Permission(name, pid, ours)
    return found


def check_model(name: str) -> None:
    """Only what models.lock names may be fetched. Raises LockError or ModelError otherwise."""
    read_lock().get(name)


def _serve(line: socket.socket, work: Callable[[str], dict[str, Any]]) -> None:
    """Do the one thing, again and again, until the daemon has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.closerange(3, line.fileno())
    os.closerange(line.fileno() + 1, _LONGEST_DESCRIPTOR)
    with contextlib.suppress(OSError):
        while word := line.recv(_ANSWER_BYTES):
            try:
                answer = work(word.decode().strip())
            except (EdgeError, OSError, UnicodeDecodeError) as error:
                answer = {"fault": str(error)}
            line.sendall(json.dumps(answer).encode())
