"""systemd: saying that we are ready and alive, and taking over a socket that it bound for us."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

_FIRST_INHERITED = 3
_LOADING_S = 180  # models may take so long to be read on a slow card, and no frame feeds meanwhile


class Notifier:
    """Talks to the service manager if there is one; otherwise every call does nothing."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._address = env.get("NOTIFY_SOCKET", "")
        every_us = env.get("WATCHDOG_USEC", "")
        self._allowed_us = int(every_us) if every_us.isdigit() else 0
        # Half the time allowed, as systemd advises.
        self._every_s = self._allowed_us / 2e6
        self._next_s = 0.0

    def say(self, text: str) -> None:
        """READY=1, STATUS=... and the like."""
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            try:
                out.sendto(text.encode(), address)
            except OSError:  # a manager that does not listen is no reason to end
                return

    def loading(self) -> None:
        """Models are read now: the watchdog is to be patient until `working`."""
        patient = f"\nWATCHDOG_USEC={_LOADING_S * 1_000_000}" if self._allowed_us else ""
        self.say(f"STATUS=loading{patient}")

    def working(self, status: str) -> None:
        """Ready, with the usual patience; status: for people."""
        usual = f"\nWATCHDOG_USEC={self._allowed_us}" if self._allowed_us else ""
        self.say(f"READY=1\nSTATUS={status}{usual}")

    def alive(self) -> None:
        """Feed the watchdog, when it is due: called for every frame."""
        if not self._every_s:
            return
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + self._every_s
            self.say("WATCHDOG=1")


def inherited_listener(env: Mapping[str, str]) -> socket.socket | None:
    """The control socket, if systemd has bound it for us (a .socket unit)."""
    if env.get("LISTEN_PID") != str(os.getpid()) or not env.get("LISTEN_FDS", "").isdigit():
        return None
    if int(env["LISTEN_FDS"]) < 1:
        return None
    return socket.socket(fileno=_FIRST_INHERITED)
