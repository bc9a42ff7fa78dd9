"""What the service manager is told, over a real datagram socket."""

from __future__ import annotations

import socket
from pathlib import Path

from apps.daemon.notify import Notifier


def test_the_watchdog_is_patient_while_models_are_read_and_only_then(tmp_path: Path) -> None:
    address = str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(10)
        notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000"})
        notifier.loading()
        assert b"WATCHDOG_USEC=180000000" in manager.recv(999).splitlines()
        notifier.working("ready")
        said = manager.recv(999).splitlines()
        assert said == [b"READY=1", b"STATUS=ready", b"WATCHDOG_USEC=30000000"]
        notifier.alive()
        assert manager.recv(999) == b"WATCHDOG=1"


def test_without_a_watchdog_none_is_spoken_of(tmp_path: Path) -> None:
    address = str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(10)
        notifier = Notifier({"NOTIFY_SOCKET": address})
        notifier.alive()
        notifier.loading()
        assert manager.recv(999) == b"STATUS=loading"
    Notifier({}).working("nobody listens")
