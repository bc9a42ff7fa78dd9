"""The C library's heap: how much of what was freed the process keeps. Linux with glibc only.

glibc gives each thread a heap of its own, eight for each core, and what one of them has freed the
others cannot use: a dozen threads that load models side by side keep 80 MB of nothing. Two heaps
are enough for threads that spend their time in arithmetic.

It also takes ever larger blocks from those heaps once large ones were freed; weights that are
loaded anew then come to lie between what stayed, and the gaps are never returned. Here blocks of
several MB come from the system each by itself and go back to it. Elsewhere both functions do
nothing.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_HEAPS = 2
# Buffers of one answer are smaller, single weights larger. All those buffers together may lie at
# a heap's end: less than that is not returned at each free(), or the next answer would fetch it.
_OWN_BLOCK_BYTES = 4 << 20
_KEPT_AT_END_BYTES = 32 << 20


def share_heaps() -> bool:
    """Let all threads share two heaps, and large blocks stand alone; to be called before threads
    start. Whether that worked.
    """
    libc = _glibc()
    return libc is not None and all(
        libc.mallopt(knob, value)
        for knob, value in (
            (_M_ARENA_MAX, _HEAPS),
            (_M_MMAP_THRESHOLD, _OWN_BLOCK_BYTES),
            (_M_TRIM_THRESHOLD, _KEPT_AT_END_BYTES),
        )
    )


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
