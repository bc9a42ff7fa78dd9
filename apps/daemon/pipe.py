"""The control socket's stand-in on Windows: a named pipe, with the same lines in both directions.

A message is one line. Both ends prove that they know a secret that lies in a folder of the user's
own, because anybody on the machine may open a pipe for reading. No socket is made, so the seal has
nothing to refuse. `family` is the one difference between systems: the tests run all of it over Unix
sockets. Not run on Windows.
"""

from __future__ import annotations

import hmac
import logging
import queue
import secrets
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from typing import Any, Protocol

from apps.daemon.protocol import (
    MAX_CLIENTS,
    MAX_LINE_BYTES,
    Handler,
    Request,
    carry_out,
    event_line,
)
from edge.atomic import write_text
from edge.paths import make_dir, runtime_dir

log = logging.getLogger(__name__)

_WAITING = 512  # lines for a client that does not read; then events are left out
_PAUSE_S = 1 / 200  # after each request: as many a second as over the socket
_KEY_NAME = "control.key"
_GREETING_S = 2.0  # a client that says nothing for so long is none
_NONCE_BYTES, _PROOF_BYTES = 32, 32
_GONE = (OSError, EOFError)  # what a connection ends by


class Line(Protocol):
    """A connection of multiprocessing, of either family."""

    def send_bytes(self, buf: bytes, /) -> None: ...
    def recv_bytes(self, maxlength: int | None = None, /) -> bytes: ...
    def poll(self, timeout: float | None = 0.0, /) -> bool: ...
    def close(self) -> None: ...


def pipe_family() -> str:
    """What carries the lines here."""
    platform: str = sys.platform
    return "AF_PIPE" if platform == "win32" else "AF_UNIX"


def pipe_address(path: Path) -> str:
    """The pipe's name for a control path: a named pipe lives in no folder."""
    if pipe_family() == "AF_UNIX":
        return str(path)
    return "\\\\.\\pipe\\edgevoice-" + "-".join(path.absolute().parts[1:])[-200:]


def secret(folder: Path | None = None) -> bytes:
    """What both ends know; made by whoever comes first. In a folder for its owner only."""
    path = make_dir(folder or runtime_dir(), private=True) / _KEY_NAME
    if not path.exists():
        write_text(path, secrets.token_hex(32))
        path.chmod(0o600)
    return path.read_text(encoding="ascii").encode()


def greet(line: Line, key: bytes) -> None:
    """The daemon's side of knowing one another. Raises OSError, EOFError."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    line.send_bytes(nonce)
    said = _heard(line, _PROOF_BYTES + _NONCE_BYTES)
    if not hmac.compare_digest(said[:_PROOF_BYTES], _proof(key, b"client", nonce)):
        raise OSError("a client that does not know the secret")
    line.send_bytes(_proof(key, b"daemon", said[_PROOF_BYTES:]))


def introduce(line: Line, key: bytes) -> None:
    """The client's side. Raises OSError, EOFError."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    line.send_bytes(_proof(key, b"client", _heard(line, _NONCE_BYTES)) + nonce)
    if not hmac.compare_digest(_heard(line, _PROOF_BYTES), _proof(key, b"daemon", nonce)):
        raise OSError("what answers there is not our daemon")


def _heard(line: Line, n_bytes: int) -> bytes:
    """A message of exactly so many bytes, soon."""
    if not line.poll(_GREETING_S):
        raise OSError("no answer")
    said = line.recv_bytes(n_bytes)
    if len(said) != n_bytes:
        raise OSError("not an answer")
    return said


def _proof(key: bytes, side: bytes, nonce: bytes) -> bytes:
    return hmac.digest(key, side + nonce, "sha256")


@dataclass(slots=True)
class _Peer:
    """One client. waiting: lines to be sent; None ends it."""

    line: Line
    waiting: queue.Queue[bytes | None] = field(default_factory=lambda: queue.Queue(_WAITING))
    watches: bool = False
    levels: bool = False
    n_lost: int = 0

    def watch(self, levels: bool) -> None:
        """Be told of events from now on."""
        self.watches, self.levels = True, levels


class PipeServer:
    """Serves clients, two threads each, as ControlServer does over a socket. handle: as there."""

    def __init__(self, address: str, key: bytes, handle: Handler) -> None:
        self._address, self._key, self._handle = address, key, handle
        self._listener = connection.Listener(address, family=pipe_family(), backlog=MAX_CLIENTS)
        self._peers: list[_Peer] = []
        self._one_at_a_time = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="edge-control", daemon=True)

    @property
    def levels_wanted(self) -> bool:
        """Whether anybody watches levels."""
        return any(peer.levels for peer in list(self._peers))

    @property
    def n_clients(self) -> int:
        """Connections now."""
        return len(self._peers)

    def start(self) -> None:
        """Serve from threads of its own."""
        self._thread.start()

    def tell(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Hand an event to every client that watches; from any thread, never blocks."""
        for peer in [each for each in list(self._peers) if each.watches]:
            if kind == "levels" and not peer.levels:
                continue
            try:
                if peer.n_lost:
                    peer.waiting.put_nowait(event_line("lost", {"events": peer.n_lost}))
                    peer.n_lost = 0
                peer.waiting.put_nowait(event_line(kind, facts))
            except queue.Full:
                peer.n_lost += 1

    def forget(self) -> None:
        """Drop what nobody was sent yet; from any thread."""
        for peer in list(self._peers):
            while not peer.waiting.empty():
                try:
                    peer.waiting.get_nowait()
                except queue.Empty:
                    break

    def close(self) -> None:
        """Take no more clients and end those that are there."""
        self._over.set()
        try:  # whoever waits for a client gets one
            connection.Client(self._address, family=pipe_family()).close()
        except OSError:
            log.debug("nobody waits for clients any more")
        self._thread.join(2.0)
        self._listener.close()
        for peer in list(self._peers):
            self._end(peer)

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                line = self._listener.accept()
            except _GONE:  # it has gone again
                continue
            if self._over.is_set() or len(self._peers) >= MAX_CLIENTS:
                line.close()
                continue
            peer = _Peer(line)
            self._peers.append(peer)
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: _Peer) -> None:
        """One client: who it is, then its requests one after the other."""
        try:
            greet(peer.line, self._key)
            threading.Thread(target=self._write, args=(peer,), daemon=True).start()
            while not self._over.is_set():
                text = peer.line.recv_bytes(MAX_LINE_BYTES + 1)
                if text.strip():
                    peer.waiting.put(carry_out(text.strip(), self._one_by_one, peer.watch))
                time.sleep(_PAUSE_S)
        except _GONE as error:
            log.debug("a client has gone: %s", error)
        finally:
            self._end(peer)

    def _one_by_one(self, request: Request) -> Mapping[str, Any]:
        with self._one_at_a_time:
            return self._handle(request)

    def _write(self, peer: _Peer) -> None:
        try:
            while (text := peer.waiting.get()) is not None:
                peer.line.send_bytes(text)
        except _GONE as error:
            log.debug("a client has gone: %s", error)

    def _end(self, peer: _Peer) -> None:
        if peer in self._peers:
            self._peers.remove(peer)
        while not peer.waiting.empty():
            try:
                peer.waiting.get_nowait()
            except queue.Empty:
                break
        peer.waiting.put(None)  # its writer ends, if it is not in the middle of a line
        peer.line.close()


class PipeStream:
    """A client's end, with what Client uses of a socket. Raises OSError as a socket does."""

    def __init__(self, address: str, key: bytes) -> None:
        self._timeout_s: float | None = None
        self._line: Line = connection.Client(address, family=pipe_family())
        try:
            introduce(self._line, key)
        except _GONE as error:
            self._line.close()
            why = str(error) or "it hung up; it may have too many clients"
            raise OSError(f"it does not know us: {why}") from error

    def settimeout(self, timeout_s: float | None) -> None:
        """How long recv waits; None: for ever."""
        self._timeout_s = timeout_s

    def sendall(self, data: bytes) -> None:
        """Send one line."""
        self._line.send_bytes(data)

    def recv(self, _n_bytes: int) -> bytes:
        """The next line; b"" once the daemon has gone."""
        try:
            if not self._line.poll(self._timeout_s):
                raise TimeoutError("no answer")
            return self._line.recv_bytes()
        except EOFError:
            return b""

    def close(self) -> None:
        """Hang up."""
        self._line.close()
