"""A child process that ends as its argument says; for tests of what its parent makes of it."""

from __future__ import annotations

import json
import os
import signal
import sys


def main(way: str) -> None:
    """Die by a signal, leave with a traceback, talk nonsense, or answer."""
    if way == "killed":
        os.kill(os.getpid(), signal.SIGSEGV)
    if way == "raised":
        raise RuntimeError("the library does not load")
    if way == "silent":
        return
    print("a library's own words")
    print(json.dumps({"error": "no such card"} if way == "refused" else {"n_samples": 3}))


if __name__ == "__main__":
    main(sys.argv[1])
