"""Large pages: memory keeps what it holds, and only big blocks without a file are touched."""

from __future__ import annotations

import numpy as np

from runtime.backends.pages import _blocks, use_large_pages

MAPS = """\
55d000000000-55d000100000 r--p 00000000 fe:00 42 /usr/bin/python3
55d001000000-55d009000000 rw-p 00000000 00:00 0 [heap]
7f0000001000-7f0002003000 rw-p 00000000 00:00 0
7f1000000000-7f1000800000 rw-p 00000000 00:00 0
7f2000000000-7f2008000000 rw-p 00000000 fe:00 43 /home/a/weights.gguf
7f3000000000-7f3008000000 r--p 00000000 00:00 0
7ffd00000000-7ffd08000000 rw-p 00000000 00:00 0 [stack]
"""


def test_only_big_private_blocks_are_chosen() -> None:
    blocks = [(0x55D001000000, 0x55D009000000), (0x7F0000200000, 0x7F0002000000)]
    assert _blocks(MAPS.splitlines()) == blocks


def test_memory_keeps_what_it_holds() -> None:
    values = np.random.default_rng(0).integers(0, 255, 48 << 20, np.uint8)
    before = values.tobytes()
    assert use_large_pages() >= 0
    assert values.tobytes() == before
