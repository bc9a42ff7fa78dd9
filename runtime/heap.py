"""The C library's heap: how much of what was freed the process keeps. Linux with glibc only.

glibc gives each thread a heap of its own, eight for each core, and what one of them has freed the
others cannot use: a dozen threads that load models side by side keep 80 MB of nothing. Two heaps
are enough for threads that spend their time in arithmetic. Elsewhere both functions do nothing.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_M_ARENA_MAX = -8
_HEAPS = 2


def share_heaps() -> bool:
    """Let all threads share two heaps; to be called before they start. Whether that worked."""
    libc = _glibc()
    return libc is not None and bool(libc.mallopt(_M_ARENA_MAX, _HEAPS))


def give_back() -> bool:
    """Return to the system what loading has freed. Whether there was anything."""
    libc = _glibc()
    return libc is not None and bool(libc.malloc_trim(0))


def _glibc() -> Any | None:
    """The C library, if it is the one that has these knobs."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
