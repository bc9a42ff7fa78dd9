"""Planted leaks: tries to get out of a seal in every way we know, in this process and in a child.

`-m apps.privacy.probe LEVEL` seals itself and prints one JSON object. It runs as a process of its
own, because a seal cannot be taken off again.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from apps.privacy.seal import seal
from edge.errors import OfflineError
from edge.paths import state_dir

FILE_NAME = "refused-by-probe.json"  # not among what was refused in earnest

# TEST-NET-1 (RFC 5737): nobody's address, so an escape harms nobody.
_NOWHERE = ("192.0.2.1", 9)
_IO_URING_SETUP = 425
_X32_SOCKET = 0x4000_0000 + 41
_CHILD = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"


def python_socket() -> None:
    """What a careless package does."""
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()


def python_connect() -> None:
    """A connection to another machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.sendto(b"leak", _NOWHERE)


def python_socket_6() -> None:
    """The same by IPv6."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as out:
        out.sendto(b"leak", ("2001:db8::1", 9))


def native_socket() -> None:
    """What a native library does: Python's audit hooks see nothing of it."""
    _native("socket", socket.AF_INET, socket.SOCK_DGRAM, 0)


def vsock() -> None:
    """The way from a virtual machine to its host."""
    _native("socket", 40, socket.SOCK_STREAM, 0)


def packet_socket() -> None:
    """Raw frames on a network card."""
    _native("socket", 17, socket.SOCK_DGRAM, 0x0300)


def io_uring() -> None:
    """A second door to every system call, sockets included."""
    _native("syscall", ctypes.c_long(_IO_URING_SETUP), 8, ctypes.create_string_buffer(120))


def x32_socket() -> None:
    """The same call under its second number."""
    _native("syscall", ctypes.c_long(_X32_SOCKET), socket.AF_INET, socket.SOCK_DGRAM, 0)


def child_process() -> None:
    """What a program started from here does."""
    done = subprocess.run([sys.executable, "-S", "-c", _CHILD], capture_output=True, check=False)
    if done.returncode:
        raise PermissionError(done.stderr.decode(errors="replace").strip().splitlines()[-1])


def unmount() -> None:
    """Uncover what was hidden."""
    _native("umount2", b"/", 2)


# Loopback allows the machine's own sockets, so there only a packet that leaves is a leak.
LEAKS: tuple[Callable[[], None], ...] = (
    *(python_connect, python_socket_6, vsock, packet_socket, io_uring, x32_socket, unmount),
)
SEALED_LEAKS = (*LEAKS, python_socket, native_socket, child_process)


def try_leaks(level: str) -> dict[str, str]:
    """For each leak what stopped it, or "escaped"."""
    found = {}
    for leak in LEAKS if level == "loopback" else SEALED_LEAKS:
        if leak is x32_socket and platform.machine() != "x86_64":
            continue
        try:
            leak()
        except OSError as error:
            found[leak.__name__] = f"refused: {error.strerror or error}"
        else:
            found[leak.__name__] = "escaped"
    return found


def _native(function: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    result = getattr(libc, function)(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    if result:
        os.close(result)


def main() -> None:
    """Seal to the level that the command line names, try to leak, print what came of it."""
    level = sys.argv[1]
    facts: dict[str, Any] = {"level": level, "fault": "", "leaks": {}}
    try:
        facts |= asdict(seal(level, record_to=state_dir() / FILE_NAME))
    except OfflineError as error:
        facts["fault"] = str(error)
    else:
        if level != "off":
            facts["leaks"] = try_leaks(level)
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
