"""The control socket's server: one thread, everything bounded, no client can hold up another.

A client is given at most so much room and so many requests a second; what it does wrong ends its
own connection. The frame loop never waits for this thread.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from apps.daemon.protocol import (
    MAX_CLIENTS,
    MAX_LINE_BYTES,
    Handler,
    carry_out,
    error_line,
    event_line,
)

log = logging.getLogger(__name__)

MAX_OUT_BYTES = 256 * 1024
_MAX_EVENT_BYTES = 64 * 1024  # a watcher that reads no faster than this loses events, not replies
_READ_BYTES = 4096
_REQUESTS_PER_S, _BURST = 200.0, 50.0
_WAITING_EVENTS = 512


class Server(Protocol):
    """Carries requests to the daemon and its events to clients: this socket, or a named pipe."""

    @property
    def levels_wanted(self) -> bool: ...
    @property
    def n_clients(self) -> int: ...
    def start(self) -> None: ...
    def tell(self, kind: str, facts: Mapping[str, Any], /) -> None: ...
    def forget(self) -> None: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class _Client:
    """One connection. budget: requests it may make now. n_lost: events it was too slow for."""

    socket: socket.socket
    incoming: bytearray = field(default_factory=bytearray)
    outgoing: bytearray = field(default_factory=bytearray)
    watches: bool = False
    levels: bool = False
    budget: float = _BURST
    seen_s: float = field(default_factory=time.monotonic)
    n_lost: int = 0
    ends: bool = False

    def watch(self, levels: bool) -> None:
        """Be told of events from now on."""
        self.watches, self.levels = True, levels


class ControlServer:
    """Serves a listening Unix socket. handle: carries out a request, quickly; raises EdgeError."""

    def __init__(self, listener: socket.socket, handle: Handler) -> None:
        self._listener, self._handle = listener, handle
        self._listener.setblocking(False)
        self._clients: dict[int, _Client] = {}
        self._selector = selectors.DefaultSelector()
        self._events: deque[bytes] = deque(maxlen=_WAITING_EVENTS)
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edge-control", daemon=True)
        self.n_refused = 0

    def start(self) -> None:
        """Serve from a thread of its own."""
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake_out, selectors.EVENT_READ)
        self._thread.start()

    def tell(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Hand an event to every client that watches; from any thread, never blocks."""
        if not self.watched:
            return
        self._events.append(event_line(kind, facts))
        try:
            self._wake_in.send(b"!")
        except OSError:  # it is awake already, or over
            return

    def forget(self) -> None:
        """Drop the events that nobody was sent yet; from any thread."""
        self._events.clear()

    @property
    def watched(self) -> bool:
        """Whether anybody watches."""
        return any(client.watches for client in list(self._clients.values()))

    @property
    def levels_wanted(self) -> bool:
        """Whether anybody watches levels."""
        return any(client.levels for client in list(self._clients.values()))

    @property
    def n_clients(self) -> int:
        """Connections now."""
        return len(self._clients)

    def close(self) -> None:
        """End every connection; waits for the thread."""
        self._over.set()
        try:
            self._wake_in.send(b"!")
        except OSError:
            log.debug("the control thread is awake already")
        self._thread.join(2.0)
        for client in list(self._clients.values()):
            client.socket.close()
        for each in (self._listener, self._wake_in, self._wake_out):
            each.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._over.is_set():
            found = self._selector.select(0.5 if self._clients else None)
            # Who has left makes room before somebody new is let in.
            for key, ready in sorted(found, key=lambda one: one[0].fileobj is self._listener):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is self._wake_out:
                    self._drain()
                elif isinstance(key.data, _Client):
                    self._serve(key.data, ready)
            for client in list(self._clients.values()):
                self._refill(client)

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError:  # it has gone again
            return
        if len(self._clients) >= MAX_CLIENTS:
            self.n_refused += 1
            accepted.close()
            return
        accepted.setblocking(False)
        client = _Client(accepted)
        self._clients[accepted.fileno()] = client
        self._selector.register(accepted, selectors.EVENT_READ, client)

    def _drain(self) -> None:
        try:
            self._wake_out.recv(_READ_BYTES)
        except OSError:
            return
        while self._events:
            line = self._events.popleft()
            for client in list(self._clients.values()):
                if not client.watches or (b'"levels"' in line[:20] and not client.levels):
                    continue
                if len(client.outgoing) + len(line) > _MAX_EVENT_BYTES:
                    client.n_lost += 1
                    continue
                if client.n_lost:
                    client.outgoing += event_line("lost", {"events": client.n_lost})
                    client.n_lost = 0
                client.outgoing += line
                self._write(client)

    def _serve(self, client: _Client, ready: int) -> None:
        if ready & selectors.EVENT_WRITE:
            self._write(client)
        if ready & selectors.EVENT_READ and client.socket.fileno() >= 0:
            self._read(client)

    def _read(self, client: _Client) -> None:
        try:
            data = client.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        client.incoming += data
        self._answer_lines(client)

    def _answer_lines(self, client: _Client) -> None:
        """Carry out what has come in whole, as far as the budget goes."""
        while client.budget >= 1 and not client.ends:
            line, end, rest = client.incoming.partition(b"\n")
            if not end:
                break
            client.incoming = rest
            if line.strip():
                client.budget -= 1
                client.outgoing += carry_out(bytes(line), self._handle, client.watch)
        if b"\n" not in client.incoming and len(client.incoming) > MAX_LINE_BYTES:
            client.outgoing += error_line(f"a line may have {MAX_LINE_BYTES} bytes")
            client.ends = True
        if len(client.outgoing) > MAX_OUT_BYTES:
            self._drop(client)  # it asks and does not read
            return
        self._write(client)

    def _write(self, client: _Client) -> None:
        try:
            if client.outgoing:
                del client.outgoing[: client.socket.send(client.outgoing)]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)
            return
        if client.ends and not client.outgoing:
            self._drop(client)
            return
        self._listen_to(client)

    def _refill(self, client: _Client) -> None:
        now_s = time.monotonic()
        had_none = client.budget < 1
        earned = (now_s - client.seen_s) * _REQUESTS_PER_S
        client.budget, client.seen_s = min(_BURST, client.budget + earned), now_s
        if had_none and client.budget >= 1 and client.socket.fileno() >= 0:
            self._answer_lines(client)

    def _listen_to(self, client: _Client) -> None:
        """Read on only from those who have budget and room; write where something waits."""
        if client.socket.fileno() < 0:
            return
        events = selectors.EVENT_READ
        if client.budget < 1 or client.ends:
            events = 0
        if client.outgoing:
            events |= selectors.EVENT_WRITE
        key = client.socket.fileno()
        registered = key in self._selector.get_map()
        if events and registered:
            self._selector.modify(client.socket, events, client)
        elif events:
            self._selector.register(client.socket, events, client)
        elif registered:
            self._selector.unregister(client.socket)

    def _drop(self, client: _Client) -> None:
        number = client.socket.fileno()
        if number < 0:
            return
        if number in self._selector.get_map():
            self._selector.unregister(client.socket)
        self._clients.pop(number, None)
        client.socket.close()
