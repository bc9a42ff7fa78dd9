"""Sealing this process: after it nothing here, and nothing started from here, reaches out.

| level    | what is left                                    | enforced by (Linux)                |
|----------|-------------------------------------------------|------------------------------------|
| off      | everything                                      | nothing                            |
| loopback | this process and its children among themselves  | network namespace, seccomp         |
| sealed   | Unix sockets, so that sound still works          | seccomp; network namespace as well |

Call it before threads and heavy imports. Listening sockets bound before it still accept, and can
still answer: whoever reaches the machine may ask, the process itself asks nobody. (Code that wants
to cheat could turn such a listener into a client; a process without listeners cannot.) It fails
closed: what the level promises is checked by trying, and OfflineError is raised where it is not so.
"""

from __future__ import annotations

import errno
import os
import platform
import socket
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from apps.privacy import hide, kernel
from apps.privacy.bpf import FAMILIES, MACHINES, Level, program
from apps.privacy.sealed import Sealed
from apps.privacy.witness import begin_account, give_listener, refusal_file, start_witness
from edge.errors import OfflineError, UsageError

MARK = "EDGE_SEALED"  # in the environment of what was started from a sealed process


def seal(wanted: str, *, keep_session_bus: bool = False, record_to: Path | None = None) -> Sealed:
    """Seal this process to a level; see above. Raises OfflineError where it cannot be had.

    keep_session_bus: leave the desktop's D-Bus in sight, which a tray icon needs. record_to: where
    the last refusal is written; None is the usual place.
    """
    if wanted not in ("off", "loopback", "sealed"):
        raise UsageError(f"{wanted} is not a level; there are sealed, loopback and off")
    level = cast("Level", wanted)
    if level == "off":
        return Sealed("off")
    platform_name: str = sys.platform
    if platform_name != "linux":
        from apps.privacy.best_effort import seal_elsewhere

        return seal_elsewhere(level, platform_name)
    nested = os.environ.get(MARK) == "sealed" and _seccomp_is_on()
    refuse_open_sockets()
    paths = hide.hidden_paths(os.environ, uid=os.getuid(), keep_session_bus=keep_session_bus)
    namespaces, notes = ((), ()) if nested else _enter_namespaces(level, paths)
    if nested:
        namespaces = ("inherited seal",)
    machine = MACHINES.get(platform.machine())
    if machine is None and "network namespace" not in namespaces:
        raise OfflineError(
            f"{level} cannot be had: there is no filter for {platform.machine()} and no network "
            f"namespace here ({'; '.join(notes)}); --privacy off goes without"
        )
    recorded = False
    mechanisms = namespaces
    if machine is not None:
        recorded = _filter(level, None if nested else record_to or refusal_file())
        mechanisms = ("seccomp", *namespaces)
    os.environ[MARK] = level
    return Sealed(level, mechanisms, hide.reachable(paths), recorded, notes)


def refuse_open_sockets() -> None:
    """Descriptors from before are not held to any filter: only listening ones may stay.

    Raises OfflineError.
    """
    for entry in list(Path("/proc/self/fd").iterdir()):
        fd = int(entry.name)
        try:
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                continue
            with socket.socket(fileno=os.dup(fd)) as found:
                if found.family == socket.AF_UNIX:
                    continue
                listening = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError:  # the descriptor of the listing itself
            continue
        if not listening:
            raise OfflineError(
                f"descriptor {fd} is a network socket from before the seal; start without it"
            )


def _enter_namespaces(
    level: str, paths: tuple[Path, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The second proof, where the system allows it: (what was entered, why what was not)."""
    before = os.environ.copy()
    wanted = kernel.NEW_NET | kernel.NEW_MOUNTS
    try:
        try:
            kernel.unshare(wanted)
            own_user = False
        except PermissionError:
            if kernel.n_threads() > 1:
                raise
            kernel.unshare_user(wanted)
            own_user = True
        if level == "loopback":
            kernel.raise_loopback()
        hide.hide(paths)
    except OSError as error:
        if level == "loopback":
            raise OfflineError(
                f"loopback needs a network namespace, which this system refuses ({error}); "
                "choose --privacy sealed or off"
            ) from error
        if _network_is_empty():  # a unit with PrivateNetwork=yes has done it for us
            return ("network namespace",), (f"hiding is left to the service manager: {error}",)
        return (), (f"no namespace of its own: {error}",)
    for name in ("DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS"):
        if name in before and not _exists_still(before[name]):
            del os.environ[name]
    if own_user:
        kernel.drop_capabilities()
    return ("network namespace", "hidden name services"), ()


def _network_is_empty() -> bool:
    """Whether this process sees no network interface but its own loopback."""
    lines = Path("/proc/self/net/dev").read_text(encoding="utf-8").splitlines()[2:]
    return {line.partition(":")[0].strip() for line in lines} <= {"lo"}


def _exists_still(address: str) -> bool:
    path = address.partition("path=")[2].partition(",")[0]
    return bool(path) and Path(path).is_socket()


def _filter(level: Level, record_to: Path | None) -> bool:
    """Apply the filter and try it; returns whether refusals are recorded."""
    machine, families = MACHINES[platform.machine()], FAMILIES[level]
    witness = None
    try:
        kernel.no_new_privs()
        if record_to is not None and kernel.n_threads() == 1:
            witness = start_witness(machine, record_to)
            try:
                listener = kernel.install_filter(
                    program(machine, families, notify=True), listener=True
                )
                give_listener(witness, listener)
            except OSError:  # an older kernel, or somebody else's filter listens already
                witness.close()
                witness = None
        if witness is None:
            kernel.install_filter(program(machine, families, notify=False), listener=False)
    except OSError as error:
        raise OfflineError(
            f"{level} cannot be had: the kernel took no filter ({error}); --privacy off goes "
            "without"
        ) from error
    _try_it(families)
    if witness is not None:
        begin_account(witness)
    return witness is not None


def _try_it(families: tuple[int, ...]) -> None:
    """What is promised is so. Raises OfflineError."""
    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET):
        if int(family) in families:
            continue
        try:
            socket.socket(family, socket.SOCK_DGRAM).close()
        except OSError as error:
            # A service manager's filter, where there is one, answers before ours, in its own words.
            if error.errno in (errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT):
                continue
            raise OfflineError(f"the filter does not answer as it should: {error}") from error
        raise OfflineError(f"the filter lets {family.name} sockets through")
    if not _seccomp_is_on():
        raise OfflineError("the kernel says that no filter is in force")


def _seccomp_is_on() -> bool:
    facts = status_of("self")
    return facts.get("Seccomp") == "2" and facts.get("NoNewPrivs") == "1"


def status_of(pid: int | str) -> Mapping[str, str]:
    """Fields of /proc/PID/status; empty where the process has gone. Raises nothing."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return {key: value.strip() for key, _, value in (x.partition(":") for x in text.splitlines())}
