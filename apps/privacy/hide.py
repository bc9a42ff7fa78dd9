"""Sockets of services that could speak to the network for a sealed process, and hiding them.

A process that may only use Unix sockets can still ask systemd-resolved, nscd or sssd for a name,
and ask D-Bus, systemd or a container engine to start something that is not sealed. In a mount
namespace of its own it finds nothing at those paths.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from apps.privacy import kernel

# Folders are covered by an empty one, sockets by a device that refuses connections.
NAME_SERVICES = (
    "/run/systemd/resolve",
    "/run/nscd",
    "/var/run/nscd",
    "/var/lib/sss/pipes",
    "/run/avahi-daemon",
    "/run/dbus",
)
STARTERS = (
    "/run/systemd/private",
    "/run/docker.sock",
    "/run/podman",
    "/run/containerd",
    "/run/snapd.socket",
    "/run/libvirt",
)
OF_USER = ("gnupg", "podman", "systemd/private")
BUS_OF_USER = ("bus", "dbus-1")
_BUS_VARIABLE = "DBUS_SESSION_BUS_ADDRESS"
_BUS_PATH = re.compile(r"unix:path=([^,;]+)")


def hidden_paths(
    env: Mapping[str, str], *, uid: int, keep_session_bus: bool = False
) -> tuple[Path, ...]:
    """What to hide, whether or not it exists. keep_session_bus: a desktop program needs it."""
    run = Path(f"/run/user/{uid}")
    paths = [Path(name) for name in NAME_SERVICES + STARTERS]
    paths += [run / name for name in OF_USER]
    if not keep_session_bus:
        paths += [run / name for name in BUS_OF_USER]
        paths += [Path(found) for found in _BUS_PATH.findall(env.get(_BUS_VARIABLE, ""))]
    return tuple(paths)


def hide(paths: tuple[Path, ...]) -> None:
    """Cover each path that exists; needs a mount namespace of our own. Raises OSError."""
    # New mounts outside (a USB disk) still appear here; ours never appear outside.
    kernel.mount("none", Path("/"), "", kernel.MS_REC | kernel.MS_SLAVE)
    for path in dict.fromkeys(Path(os.path.realpath(path)) for path in paths):
        try:
            mode = path.stat().st_mode
        except OSError:  # not there, or not to be reached by us anyway
            continue
        if stat.S_ISDIR(mode):
            kernel.mount("tmpfs", path, "tmpfs", kernel.MS_RDONLY, "size=4k,mode=555")
        else:
            kernel.mount("/dev/null", path, "", kernel.MS_BIND)


def reachable(paths: tuple[Path, ...]) -> tuple[str, ...]:
    """Those Unix sockets at or below the paths that still take a connection from this process."""
    found = []
    for path in dict.fromkeys(Path(os.path.realpath(path)) for path in paths):
        try:
            below = [path] if not path.is_dir() else sorted(path.iterdir())
            sockets = [each for each in below if stat.S_ISSOCK(each.stat().st_mode)]
        except OSError:
            continue
        found += [str(each) for each in sockets if _answers(each)]
    return tuple(found)


def _answers(path: Path) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        with socket.socket(socket.AF_UNIX, kind) as client:
            client.settimeout(0.2)
            try:
                client.connect(str(path))
            except OSError:
                continue
            return True
    return False
