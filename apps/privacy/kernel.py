"""The few Linux calls that sealing takes, through ctypes: each raises OSError with its number."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import socket
import struct
from pathlib import Path

_PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP = 38, 24
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_CAPSET = {"x86_64": 126, "aarch64": 91}
_SET_MODE_FILTER = 1
_FLAG_ALL_THREADS, _FLAG_LISTENER = 1, 8
NEW_USER, NEW_NET, NEW_MOUNTS = 0x1000_0000, 0x4000_0000, 0x0002_0000
MS_RDONLY, MS_BIND, MS_REC, MS_SLAVE = 1, 4096, 16384, 1 << 19
_CAPABILITY_VERSION = 0x2008_0522
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1


class _Program(ctypes.Structure):
    _fields_ = (("n_instructions", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(number: int, *arguments: object) -> int:
    """Any system call by its number."""
    return _checked(_libc().syscall(ctypes.c_long(number), *arguments), f"system call {number}")


def no_new_privs() -> None:
    """No program started from here may gain rights; the kernel wants it before a filter."""
    _checked(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def install_filter(code: bytes, *, listener: bool) -> int:
    """Apply a BPF program to this process and all it starts; there is no way back.

    listener: returns a descriptor that hears of the calls the program wants to ask about; only for
    a process with one thread. Without it all threads are held to the program at once.
    """
    held = ctypes.create_string_buffer(code, len(code))
    wanted = _Program(len(code) // 8, ctypes.cast(held, ctypes.c_void_p))
    flags = _FLAG_LISTENER if listener else _FLAG_ALL_THREADS
    number = _SECCOMP[platform.machine()]
    result = syscall(number, _SET_MODE_FILTER, flags, ctypes.byref(wanted))
    if not listener and result:  # the number of a thread that could not be held to it
        raise OSError(0, f"seccomp: thread {result} runs under another filter")
    return result


def unshare(flags: int) -> None:
    """Leave the namespaces that this process shares with others."""
    _checked(_libc().unshare(flags), "unshare")


def unshare_user(flags: int) -> None:
    """Leave namespaces without rights: through a user namespace in which we are who we were."""
    uid, gid = os.geteuid(), os.getegid()  # unknown in the new namespace until they are mapped
    unshare(NEW_USER | flags)
    own = Path("/proc/self")
    (own / "setgroups").write_text("deny", encoding="utf-8")
    (own / "uid_map").write_text(f"{uid} {uid} 1", encoding="utf-8")
    (own / "gid_map").write_text(f"{gid} {gid} 1", encoding="utf-8")


def mount(source: str, target: Path, kind: str, flags: int, options: str = "") -> None:
    """Mount something on a path of this mount namespace."""
    words = [os.fsencode(text) for text in (source, target, kind, options)]
    _checked(_libc().mount(words[0], words[1], words[2], flags, words[3]), f"mount on {target}")


def drop_capabilities() -> None:
    """Give up every capability, those of a namespace of our own too."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    syscall(_CAPSET[platform.machine()], header, bytes(24))


def raise_loopback() -> None:
    """Switch on `lo`, the only interface of a new network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def n_threads() -> int:
    """Threads of this process."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())
