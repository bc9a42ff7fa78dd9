"""Keeps account of what the filter refused, whoever tried it: Python, native code, a child process.

The kernel hands each refused call to a small process outside the filter. It answers with an error
and writes down what was tried. If it is killed the calls are refused all the same (ENOSYS).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from apps.privacy.bpf import CHECKED_CALLS, Machine
from edge.atomic import write_text
from edge.paths import make_dir, state_dir

FILE_NAME = "refused.json"

_RECEIVE, _SEND = 0xC050_2100, 0xC018_2101
_CALL = struct.Struct("=QIIiIQ6Q")  # struct seccomp_notif
_ANSWER = struct.Struct("=QqiI")  # struct seccomp_notif_resp
_LONGEST_DESCRIPTOR = 4096
_WRITE_EVERY_S = 0.2
_FAMILY_NAMES = {int(f): f.name for f in socket.AddressFamily}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was refused last. at: ISO 8601, UTC. program: its name. n_so_far: under that seal."""

    at: str
    pid: int
    program: str
    what: str
    n_so_far: int


def refusal_file() -> Path:
    """Where the last refusal is written."""
    return state_dir() / FILE_NAME


def last_refusal(path: Path | None = None) -> Refusal | None:
    """What was refused last by any seal of this user; None if nothing was, or nobody looked."""
    try:
        facts = json.loads((path or refusal_file()).read_text(encoding="utf-8"))
        return Refusal(**{name: facts[name] for name in Refusal.__slots__})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def start_witness(machine: Machine, path: Path) -> socket.socket:
    """Fork the witness; hand it the listener with `give_listener`. Only before any thread runs."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    first = os.fork()
    if first == 0:
        try:
            if os.fork() == 0:  # a grandchild is nobody's zombie
                ours.close()
                _alone(its)
                _watch(its, machine, path)
        finally:
            os._exit(0)
    its.close()
    os.waitpid(first, 0)
    return ours


def give_listener(witness: socket.socket, listener: int) -> None:
    """Let the witness answer from now on; it writes nothing down until `begin_account`."""
    socket.send_fds(witness, [b"l"], [listener])
    os.close(listener)


def begin_account(witness: socket.socket) -> None:
    """From now on what is refused is written down."""
    witness.sendall(b"g")
    witness.close()


def _alone(keep: socket.socket) -> None:
    """Hold on to nothing of the process we come from: no terminal, no pipe, no lock."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    devnull = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(devnull, fd)
    os.closerange(3, keep.fileno())
    os.closerange(keep.fileno() + 1, _LONGEST_DESCRIPTOR)


def _watch(parent: socket.socket, machine: Machine, path: Path) -> None:
    """Answer every question until no process under the filter is left."""
    with contextlib.suppress(OSError):
        _, fds, _, _ = socket.recv_fds(parent, 1, 1)
        if not fds:
            return
        account = _Account(machine, path)
        poll = select.poll()
        poll.register(fds[0], select.POLLIN)
        poll.register(parent, select.POLLIN)
        while True:
            for fd, events in first(poll.poll(account.wait_ms()), parent.fileno()):
                if fd == parent.fileno():
                    account.begun = account.begun or bool(parent.recv(1))
                    poll.unregister(parent)
                elif events & select.POLLIN:
                    _answer(fds[0], account)
                elif events & (select.POLLHUP | select.POLLERR):
                    account.write()
                    return
            account.write_if_due()


def first(ready: Sequence[tuple[int, int]], fd: int) -> list[tuple[int, int]]:
    """What is ready, fd before all else.

    The word to begin was sent before the first call that counts. Where this process was slow it
    finds both at once, and in the other order that call would go unrecorded.
    """
    return sorted(ready, key=lambda each: each[0] != fd)


def _answer(listener: int, account: _Account) -> None:
    call = bytearray(_CALL.size)
    try:
        fcntl.ioctl(listener, _RECEIVE, call)
        ident, pid, _, nr, _, _, *arguments = _CALL.unpack(call)
        program = _program_name(pid)  # while it waits for us, it is still there
        fcntl.ioctl(listener, _SEND, bytearray(_ANSWER.pack(ident, 0, -errno.EACCES, 0)))
        account.note(pid, program, nr, arguments[0])
    except OSError as error:
        if error.errno != errno.ENOENT:  # the caller was killed meanwhile
            raise


def _program_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "?"


class _Account:
    """What was refused, written to its file at most five times a second."""

    def __init__(self, machine: Machine, path: Path) -> None:
        self.begun = False
        self._machine, self._path = machine, path
        self._last: Refusal | None = None
        self._written_s = 0.0
        self._due = False
        self._n = 0

    def note(self, pid: int, program: str, nr: int, argument: int) -> None:
        if not self.begun:
            return
        what = self._machine.name(nr)
        if what in CHECKED_CALLS:
            what += f" {_FAMILY_NAMES.get(argument & 0xFFFF_FFFF, argument)}"
        self._n += 1
        at = datetime.now(UTC).isoformat(timespec="seconds")
        self._last, self._due = Refusal(at, pid, program, what, self._n), True

    def wait_ms(self) -> float | None:
        """How long poll may wait: for ever, unless something is to be written."""
        return 1_000 * _WRITE_EVERY_S if self._due else None

    def write_if_due(self) -> None:
        if self._due and time.monotonic() - self._written_s >= _WRITE_EVERY_S:
            self.write()

    def write(self) -> None:
        if self._last is None or not self._due:
            return
        self._written_s, self._due = time.monotonic(), False
        try:
            make_dir(self._path.parent, private=True)
            write_text(self._path, json.dumps(asdict(self._last)) + "\n")
        except Exception:  # noqa: BLE001  whatever the disk does, calls must still be answered
            self._due = False
