"""One daemon a user: an advisory lock on a file that names its owner."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO

from edge.errors import UsageError
from edge.paths import make_dir, runtime_dir

LOCK_NAME, SOCKET_NAME = "daemon.lock", "control.sock"


def socket_path() -> Path:
    """Where the daemon listens. EDGE_CONTROL_SOCKET names another place, as the appliance does."""
    named = os.environ.get("EDGE_CONTROL_SOCKET")
    return Path(named) if named else runtime_dir() / SOCKET_NAME


def lock_path() -> Path:
    """The lock beside the socket."""
    return runtime_dir() / LOCK_NAME


class InstanceLock:
    """Held as long as the object lives; the kernel releases it when the process ends."""

    def __init__(self, path: Path | None = None) -> None:
        """Take the lock. Raises UsageError where another daemon holds it."""
        self.path = path or lock_path()
        make_dir(self.path.parent, private=True)
        self._file: IO[str] = self.path.open("a+", encoding="ascii")
        if not _lock(self._file):
            self._file.close()
            raise UsageError(
                f"a daemon is running already (process {_owner(self.path) or 'unknown'}); "
                "`edge ctl status` talks to it"
            )
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        """Let another daemon start."""
        self._file.truncate(0)
        self._file.close()


def running_pid(path: Path | None = None) -> int | None:
    """The daemon that holds the lock; None if there is none."""
    path = path or lock_path()
    try:
        with path.open("r+", encoding="ascii") as file:
            return None if _lock(file) else _owner(path)
    except OSError:
        return None


def _owner(path: Path) -> int | None:
    text = path.read_text(encoding="ascii").strip()
    return int(text) if text.isdigit() else None


def _lock(file: IO[str]) -> bool:
    platform: str = sys.platform
    if platform == "win32":
        import importlib

        msvcrt = importlib.import_module("msvcrt")
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
