"""The connection to the daemon in Qt's loop: lines become signals, a lost daemon is tried again."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, QSocketNotifier, QTimer, Signal

from apps.daemon.client import Stream, open_stream
from apps.daemon.lock import socket_path

_RETRY_MS = 2_000
_LONGEST_LINE = 1 << 20


class DaemonLink(QObject):
    """Says what the daemon says. status: an answer with everything. happened: an event.

    Qt watches a socket by itself; for a named pipe a thread does.
    """

    status = Signal(object)
    happened = Signal(object)
    refused = Signal(str)
    connected = Signal(bool)
    _came = Signal(object, bytes)

    def __init__(
        self, parent: QObject | None = None, connect: Callable[[Path], Stream] = open_stream
    ) -> None:
        super().__init__(parent)
        self._connect = connect
        self._came.connect(self._take_in)
        self._socket: Stream | None = None
        self._notifier: QSocketNotifier | None = None
        self._waiting = b""
        self._levels = False
        self._retry = QTimer(self, interval=_RETRY_MS)
        self._retry.timeout.connect(self.connect_now)

    @property
    def is_connected(self) -> bool:
        """Whether there is a daemon."""
        return self._socket is not None

    def connect_now(self) -> None:
        """Try the socket; go on trying until it answers."""
        if self._socket is not None:
            return
        self._retry.start()
        try:
            made = self._connect(socket_path())
        except OSError:
            self.connected.emit(False)
            return
        self._retry.stop()
        self._socket, self._waiting = made, b""
        if isinstance(made, socket.socket):
            made.setblocking(False)
            self._notifier = QSocketNotifier(made.fileno(), QSocketNotifier.Type.Read, self)
            self._notifier.activated.connect(self._read)
        else:
            made.settimeout(None)
            threading.Thread(target=self._listen, args=(made,), daemon=True).start()
        self.connected.emit(True)
        self.ask("watch", levels=self._levels)

    def ask(self, do: str, **facts: object) -> None:
        """Send a command; its answer comes as a signal."""
        if self._socket is None:
            return
        try:
            self._socket.sendall(json.dumps({"do": do, **facts}).encode() + b"\n")
        except OSError:
            self._lost()

    def want_levels(self, wanted: bool) -> None:
        """Whether loudness is wanted: only while a meter is on the screen."""
        if wanted != self._levels:
            self._levels = wanted
            self.ask("watch", levels=wanted)

    def _read(self) -> None:
        if self._socket is None:
            return
        try:
            data = self._socket.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._take_in(self._socket, data)

    def _listen(self, line: Stream) -> None:
        """Read a named pipe, on a thread of its own, until it ends."""
        data = b"..."
        while data:
            try:
                data = line.recv(65_536)
            except OSError:
                data = b""
            try:
                self._came.emit(line, data)
            except RuntimeError:  # Qt has ended
                return

    def _take_in(self, source: Stream, data: bytes) -> None:
        """What has come, b"" at the end; that of a connection before this one is forgotten."""
        if source is not self._socket:
            return
        if not data or len(self._waiting) > _LONGEST_LINE:
            self._lost()
            return
        *lines, self._waiting = (self._waiting + data).split(b"\n")
        for line in lines:
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            found: dict[str, Any] = json.loads(line)
        except ValueError:
            return
        if "event" in found:
            self.happened.emit(found)
        elif not found.get("ok"):
            self.refused.emit(str(found.get("error", "")))
        elif "panel" in found:
            self.status.emit(found)

    def _lost(self) -> None:
        if self._notifier is not None:
            self._notifier.setEnabled(False)
            self._notifier.deleteLater()
        if self._socket is not None:
            self._socket.close()
        self._socket = self._notifier = None
        self.connected.emit(False)
        self._retry.start()
