"""Starting the daemon in the order that a seal needs: lock, listener, helpers, seal, the rest."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from apps.daemon.lock import InstanceLock, socket_path
from apps.daemon.notify import Notifier, inherited_listener
from apps.daemon.permissions import start_permissions
from apps.privacy.seal import seal
from apps.signals import on_end
from edge.config import load_config
from edge.errors import UsageError
from edge.paths import make_dir

if TYPE_CHECKING:
    from apps.daemon.protocol import Handler
    from apps.daemon.server import Server

_BACKLOG = 16
_LONGEST_ADDRESS = 107  # of a Unix socket


def run_daemon(flags: Mapping[str, object]) -> None:
    """Be the daemon until told to end. Raises UsageError where one runs already."""
    config = load_config(flags).config
    lock = InstanceLock()
    path = socket_path()
    make_server, ours = listen(path)
    permissions = start_permissions(config.privacy.allow)
    sealed = seal(config.privacy.level)

    from apps.daemon.daemon import Daemon

    daemon = Daemon(sealed, flags, permissions, Notifier(os.environ))
    on_end(lambda *_: daemon.controls.over.set())
    if hangup := getattr(signal, "SIGHUP", None):  # Windows has none
        signal.signal(hangup, lambda *_: daemon.controls.again.set())
    try:
        daemon.serve(make_server(daemon.handle))
    finally:
        if ours:
            path.unlink(missing_ok=True)
        for permission in permissions.values():
            permission.line.close()
        lock.release()


def listen(path: Path) -> tuple[Callable[[Handler], Server], bool]:
    """Take the control socket before the seal: (what serves it, whether it is ours to remove)."""
    from apps.daemon.server import ControlServer

    platform: str = sys.platform
    if platform == "win32":
        from apps.daemon.pipe import PipeServer, pipe_address, secret

        key = secret(path.parent)
        return lambda handle: PipeServer(pipe_address(path), key, handle), False
    listener = inherited_listener(os.environ)
    ours = listener is None
    taken = bind(path) if listener is None else listener
    return lambda handle: ControlServer(taken, handle), ours


def bind(path: Path) -> socket.socket:
    """Listen at a path that only its owner can reach. The caller holds the lock, so what lies there
    is nobody's. Raises UsageError.
    """
    if len(os.fsencode(path)) > _LONGEST_ADDRESS:
        raise UsageError(f"{path} is too long for a socket; set EDGE_CONTROL_SOCKET to a shorter")
    make_dir(path.parent, private=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError as error:
        raise UsageError(f"{path} cannot be listened at: {error.strerror}") from error
    finally:
        os.umask(before)
    listener.listen(_BACKLOG)
    return listener
