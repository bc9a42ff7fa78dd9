"""What a running process has open, from /proc: sockets by family, listeners, files it writes."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from apps.privacy.seal import status_of

_SOCKET = re.compile(r"socket:\[(\d+)\]")
# Family -> files of /proc/PID/net, and the column of the inode in them.
_TABLES = {
    "INET": (("tcp", 9), ("udp", 9), ("raw", 9)),
    "INET6": (("tcp6", 9), ("udp6", 9), ("raw6", 9)),
    "NETLINK": (("netlink", 9),),
    "UNIX": (("unix", 6),),
    "PACKET": (("packet", 8),),
}
_TCP_LISTENS, _UNIX_ACCEPTS = "0A", 0x10000
_WRITING = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True, slots=True)
class Found:
    """One process. sockets: by family. listening: their addresses. written: files open to write.

    level: "sealed" where the kernel holds it to a filter. own_network: another network namespace
    than ours. n_threads_outside: threads that no filter holds.
    """

    pid: int
    program: str
    filtered: bool
    own_network: bool
    n_threads_outside: int
    sockets: dict[str, int]
    listening: tuple[str, ...]
    written: tuple[str, ...]


def look_at(pid: int, *, ours: Iterable[Path] = ()) -> Found | None:
    """Look at a process of ours; None where it has gone or is not ours. ours: folders it may
    write to.
    """
    proc = Path(f"/proc/{pid}")
    facts = status_of(pid)
    try:
        links = _links(proc / "fd")
        own_network = (proc / "ns/net").readlink() != Path("/proc/self/ns/net").readlink()
        threads = [status_of(f"{pid}/task/{each.name}") for each in (proc / "task").iterdir()]
    except OSError:
        return None
    inodes = {m[1] for link in links.values() if (m := _SOCKET.match(link))}
    # A listener from before the seal is in the tables of the network outside, ours.
    sockets, listening = _sockets((proc / "net", Path("/proc/self/net")), inodes)
    return Found(
        pid,
        facts.get("Name", "?"),
        filtered=facts.get("Seccomp") == "2" and facts.get("NoNewPrivs") == "1",
        own_network=own_network,
        n_threads_outside=sum(1 for each in threads if each.get("Seccomp", "2") != "2"),
        sockets=sockets,
        listening=listening,
        written=_written(proc, links, tuple(ours)),
    )


def _links(folder: Path) -> dict[str, str]:
    found = {}
    for fd in folder.iterdir():
        try:
            found[fd.name] = str(fd.readlink())
        except FileNotFoundError:  # closed meanwhile
            continue
    return found


def _sockets(nets: tuple[Path, ...], inodes: set[str]) -> tuple[dict[str, int], tuple[str, ...]]:
    counted: Counter[str] = Counter()
    listening: list[str] = []
    known: set[str] = set()
    for net, family in ((net, family) for net in nets for family in _TABLES):
        for table, column in _TABLES[family]:
            for words in _rows(net / table):
                if len(words) <= column or words[column] not in inodes - known:
                    continue
                counted[family] += 1
                known.add(words[column])
                if address := _listens(table, words):
                    listening.append(address)
    if unknown := len(inodes - known):
        counted["of other networks"] = unknown
    return dict(counted), tuple(sorted(listening))


def _listens(table: str, words: list[str]) -> str:
    if table in ("tcp", "tcp6") and words[3] == _TCP_LISTENS:
        return f"{table} port {int(words[1].rpartition(':')[2], 16)}"
    if table == "unix" and int(words[3], 16) & _UNIX_ACCEPTS:
        return f"unix {words[7] if len(words) > 7 else '(no name)'}"
    return ""


def _rows(table: Path) -> list[list[str]]:
    try:
        return [line.split() for line in table.read_text(encoding="utf-8").splitlines()[1:]]
    except OSError:
        return []


def _written(proc: Path, links: dict[str, str], ours: tuple[Path, ...]) -> tuple[str, ...]:
    found = set()
    for name, link in links.items():
        path = Path(link)
        if not link.startswith("/") or link.startswith("/dev/") or " (deleted)" in link:
            continue
        if link.startswith("/memfd:") or any(path.is_relative_to(folder) for folder in ours):
            continue
        try:
            info = (proc / "fdinfo" / name).read_text(encoding="ascii")
        except OSError:
            continue
        flags = re.search(r"flags:\s*(\d+)", info)
        if flags and int(flags[1], 8) & _WRITING:
            found.add(link)
    return tuple(sorted(found))
