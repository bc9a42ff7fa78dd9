"""The other end of the control socket: what `edge ctl` and the tray speak through."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from apps.daemon.lock import socket_path
from edge.errors import EdgeError

_LONGEST_REPLY = 1 << 20
_CONNECT_S = 5.0


class DaemonGoneError(EdgeError):
    """No daemon answers at the socket."""


class Stream(Protocol):
    """What is used of a socket, and what a named pipe has too."""

    def settimeout(self, value: float | None, /) -> None: ...
    def sendall(self, data: bytes, /) -> None: ...
    def recv(self, bufsize: int, /) -> bytes: ...
    def close(self) -> None: ...


def open_stream(path: Path) -> Stream:
    """A connection to the daemon: a Unix socket; on Windows a named pipe. Raises OSError."""
    platform: str = sys.platform
    if platform == "win32":
        return over_pipe(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.settimeout(_CONNECT_S)
        made.connect(str(path))
    except OSError:
        made.close()
        raise
    return made


def over_pipe(path: Path) -> Stream:
    """A connection over a named pipe. Raises OSError."""
    from apps.daemon.pipe import PipeStream, pipe_address, secret

    return PipeStream(pipe_address(path), secret(path.parent))


class Client:
    """One connection to the daemon. Raises DaemonGoneError where there is none.

    connect: makes it; None is what this system has.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        timeout_s: float = 5.0,
        connect: Callable[[Path], Stream] | None = None,
    ) -> None:
        self.path = path or socket_path()
        self._waiting = b""
        try:
            self.socket = (connect or open_stream)(self.path)
            self.socket.settimeout(timeout_s)
        except OSError as error:
            raise DaemonGoneError(
                f"no daemon answers at {self.path} ({error.strerror or error}); start it with: "
                "edge serve"
            ) from error

    def ask(self, do: str, **facts: object) -> dict[str, Any]:
        """Send one command and wait for its answer. Raises EdgeError with the daemon's reason."""
        self.send(do, **facts)
        while True:
            found = self.next_line()
            if "event" in found:
                continue
            if not found.get("ok"):
                raise EdgeError(str(found.get("error", "the daemon refused")))
            return found

    def send(self, do: str, **facts: object) -> None:
        """Send one command; the answer comes as one of the next lines."""
        try:
            self.socket.sendall(json.dumps({"do": do, **facts}).encode() + b"\n")
        except OSError as error:
            raise DaemonGoneError(f"the daemon at {self.path} has gone: {error}") from error

    def lines(self) -> Iterator[dict[str, Any]]:
        """Everything that comes, until the daemon ends."""
        while True:
            try:
                yield self.next_line()
            except DaemonGoneError:
                return

    def next_line(self) -> dict[str, Any]:
        """The next object. Raises DaemonGoneError."""
        while b"\n" not in self._waiting:
            try:
                data = self.socket.recv(65_536)
            except OSError as error:
                raise DaemonGoneError(f"the daemon at {self.path} gives no answer") from error
            if not data or len(self._waiting) > _LONGEST_REPLY:
                raise DaemonGoneError(f"the daemon at {self.path} has gone")
            self._waiting += data
        line, _, self._waiting = self._waiting.partition(b"\n")
        found = json.loads(line)
        return found if isinstance(found, dict) else {}

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()
