"""The shared heap: threads do not get one each. In a child, because a heap is for a whole life."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from runtime.heap import give_back

# Eight threads hold memory of their own at once; glibc then tells its heaps as XML.
_CHILD = """
import ctypes, re, sys, threading
from runtime.heap import share_heaps
if sys.argv[1] == "shared":
    assert share_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.open_memstream.restype = ctypes.c_void_p
together = threading.Barrier(8)
def work():
    libc.malloc(1000)
    together.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
text, size = ctypes.c_char_p(), ctypes.c_size_t()
stream = ctypes.c_void_p(libc.open_memstream(ctypes.byref(text), ctypes.byref(size)))
libc.malloc_info(0, stream)
libc.fclose(stream)
print(len(re.findall("<heap ", text.value.decode())))
"""

# A large block is freed, another is taken: was that one taken from the system alone?
_LARGE = """
import ctypes, sys
from runtime.heap import share_heaps
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "abcdefghij"]
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.mallinfo2.restype = ctypes.c_void_p, Info
if sys.argv[1] == "shared":
    assert share_heaps()
libc.free(ctypes.c_void_p(libc.malloc(24 << 20)))
before = libc.mallinfo2().e
libc.malloc(12 << 20)
print(libc.mallinfo2().e - before >> 20)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")


def child(code: str, how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", code, how], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_eight_threads_share_two_heaps() -> None:
    assert child(_CHILD, "shared") <= 2
    assert child(_CHILD, "own") > 2  # else the first line says nothing


def test_large_blocks_stand_alone_however_often_some_were_freed() -> None:
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("glibc tells how much stands alone from 2.33 on")
    assert child(_LARGE, "shared") == 12
    assert child(_LARGE, "own") == 0  # else the first line says nothing


def test_what_was_freed_can_be_given_back_at_any_time() -> None:
    blocks = [bytearray(1 << 14) for _ in range(1 << 10)]
    del blocks
    assert isinstance(give_back(), bool)
