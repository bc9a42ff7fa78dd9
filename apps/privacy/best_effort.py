"""macOS and Windows: what can be had there, named as what it is. Not verified on such machines."""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from typing import TYPE_CHECKING

from apps.privacy.sealed import Sealed
from edge.errors import OfflineError

if TYPE_CHECKING:
    from apps.privacy.bpf import Level

_RULES = {
    "sealed": "(deny network*) (allow network* (local unix) (remote unix))",
    "loopback": """(deny network*) (allow network* (local unix) (remote unix)
        (local ip "localhost:*") (remote ip "localhost:*"))""",
}
_REFUSED_EVENTS = ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo")


def seal_elsewhere(level: Level, platform: str) -> Sealed:
    """macOS: a sandbox profile, inherited by children. Elsewhere: Python's own sockets only.

    Raises OfflineError.
    """
    if platform == "darwin":
        _sandbox(f"(version 1) (allow default) {_RULES[level]}")
        notes = ("best effort: macOS calls this interface deprecated",)
        return Sealed(level, ("sandbox profile",), notes=notes)
    sys.addaudithook(_refuse)
    note = (
        "best effort: only Python's own sockets are refused here; native code and other programs "
        "are not. A firewall rule for this program is needed for more"
    )
    return Sealed(level, ("Python audit hook",), notes=(note,))


def _sandbox(profile: str) -> None:
    library = ctypes.CDLL(ctypes.util.find_library("sandbox") or "/usr/lib/libsandbox.dylib")
    message = ctypes.c_char_p()
    if library.sandbox_init(profile.encode(), 0, ctypes.byref(message)) != 0:
        why = (message.value or b"no reason given").decode(errors="replace")
        raise OfflineError(f"macOS refused the sandbox profile ({why}); --privacy off goes without")


def _refuse(event: str, _arguments: object) -> None:
    if event in _REFUSED_EVENTS:
        raise PermissionError(f"{event}: this process is sealed")
