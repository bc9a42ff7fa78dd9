"""The system call filter as a BPF program: pure arithmetic, the same on every machine.

An allow-list of socket families, not a deny-list of addresses: a filter cannot look behind the
pointer that connect() is given. What could walk around the family check is denied as well:
io_uring, other processes' sockets (pidfd_getfd, ptrace), other namespaces (setns) and undoing the
mounts that hide name services. System calls of a foreign architecture end the process; x32 numbers,
which are a second name of every x86_64 call, do not exist.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Literal

Level = Literal["off", "loopback", "sealed"]

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16  # by number: the same on both machines
FAMILIES: Mapping[Level, tuple[int, ...]] = MappingProxyType(
    {"sealed": (AF_UNIX,), "loopback": (AF_UNIX, AF_INET, AF_INET6, AF_NETLINK)}
)

X32_BIT = 0x4000_0000
_NR_AT, _ARCH_AT, _FAMILY_AT = 0, 4, 16  # offsets in struct seccomp_data; low half of argument 0


class Verdict(IntEnum):
    """What the kernel does with a call; the low 16 bits of ERRNO carry the number."""

    KILL = 0x8000_0000
    ERRNO = 0x0005_0000
    NOTIFY = 0x7FC0_0000
    ALLOW = 0x7FFF_0000


class _Op(IntEnum):
    LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
    JUMP_EQ = 0x15
    JUMP_GE = 0x35
    RETURN = 0x06


# Since Linux 5.x new calls have one number everywhere.
_COMMON = MappingProxyType(
    {
        "io_uring_setup": 425,
        "io_uring_enter": 426,
        "io_uring_register": 427,
        "open_tree": 428,
        "move_mount": 429,
        "fsopen": 430,
        "fsconfig": 431,
        "fsmount": 432,
        "fspick": 433,
        "pidfd_getfd": 438,
        "mount_setattr": 442,
        "open_tree_attr": 467,
    }
)


@dataclass(frozen=True, slots=True)
class Machine:
    """A processor's system calls. audit: AUDIT_ARCH_*. calls: the denied ones and the sockets'."""

    audit: int
    calls: Mapping[str, int]
    has_x32: bool = False

    def name(self, nr: int) -> str:
        """The call of a number, for people."""
        return next((name for name, n in self.calls.items() if n == nr), f"call {nr}")


MACHINES: Mapping[str, Machine] = MappingProxyType(
    {
        "x86_64": Machine(
            0xC000_003E,
            MappingProxyType(
                {"socket": 41, "socketpair": 53, "ptrace": 101, "pivot_root": 155, "mount": 165}
                | {"umount2": 166, "setns": 308, "process_vm_writev": 311, **_COMMON}
            ),
            has_x32=True,
        ),
        "aarch64": Machine(
            0xC000_00B7,
            MappingProxyType(
                {"socket": 198, "socketpair": 199, "ptrace": 117, "pivot_root": 41, "mount": 40}
                | {"umount2": 39, "setns": 268, "process_vm_writev": 271, **_COMMON}
            ),
        ),
    }
)
CHECKED_CALLS = ("socket", "socketpair")


def program(machine: Machine, families: tuple[int, ...], *, notify: bool) -> bytes:
    """The filter for one machine: instructions of 8 bytes, at most 4096 of them.

    families: of sockets that may be made. notify: ask a listener what to answer, which then can
    keep account of what was refused; without it refused calls fail with EACCES at once.
    """
    deny = Verdict.NOTIFY if notify else Verdict.ERRNO | errno.EACCES
    denied = [nr for name, nr in machine.calls.items() if name not in CHECKED_CALLS]
    checked = [machine.calls[name] for name in CHECKED_CALLS]
    family = [_load(_FAMILY_AT)]
    family += [_jump(_Op.JUMP_EQ, each, len(families) - i) for i, each in enumerate(families)]
    family += [_return(deny), _return(Verdict.ALLOW)]

    body: list[bytes] = []
    calls = [*((nr, "deny") for nr in denied), *((nr, "check") for nr in checked)]
    n_after = len(calls)  # comparisons, then: allow, deny, family check
    for i, (nr, kind) in enumerate(calls):
        skip = n_after - i - 1 + (1 if kind == "deny" else 2)
        body.append(_jump(_Op.JUMP_EQ, nr, skip))
    body += [_return(Verdict.ALLOW), _return(deny), *family]

    head = [_load(_ARCH_AT), _jump(_Op.JUMP_EQ, machine.audit, 1), _return(Verdict.KILL)]
    head.append(_load(_NR_AT))
    if machine.has_x32:
        head.append(_jump(_Op.JUMP_GE, X32_BIT, 0, otherwise=1))
        head.append(_return(Verdict.ERRNO | errno.ENOSYS))
    return b"".join([*head, *body])


def _load(offset: int) -> bytes:
    return struct.pack("=HBBI", _Op.LOAD, 0, 0, offset)


def _jump(op: _Op, value: int, skip: int, otherwise: int = 0) -> bytes:
    """Pass over `skip` instructions if the comparison holds, else over `otherwise`."""
    return struct.pack("=HBBI", op, skip, otherwise, value)


def _return(verdict: int) -> bytes:
    return struct.pack("=HBBI", _Op.RETURN, 0, 0, verdict)
