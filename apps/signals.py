"""Being told to end. A shell that starts a command in the background may have it ignore Ctrl-C, and
it then does; SIGTERM ends it all the same.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]


def on_end(handler: Handler) -> dict[signal.Signals, Any]:
    """Have SIGTERM, and SIGINT unless it is ignored, call handler; returns what was there before.

    Only from the main thread.
    """
    before: dict[signal.Signals, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, handler)
    return before


def end_as_interrupted() -> None:
    """Make SIGTERM a KeyboardInterrupt, as Ctrl-C is: open files are put away first."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def told_to_end(act: Callable[[], object]) -> Iterator[None]:
    """While the block runs, being told to end calls act and nothing else."""
    before = on_end(lambda *_: act())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
