"""A folder that is made over a long time: absent until it is whole, continued after a kill."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.atomic import write_text
from edge.errors import EdgeError, UsageError
from edge.outputs import check_new_folder

_KEY = "made-from.json"


@contextmanager
def resumable_folder(out: Path, key: str) -> Iterator[Path]:
    """Give a hidden folder beside `out`; it becomes `out` when the block ends well.

    After a kill or an interrupt it stays, and the next call with the same key finds what is in it;
    with another key, or after an error, it is begun anew. One process at a time may hold it.
    Raises UsageError where `out` is taken, EdgeError where another process works on it.
    """
    check_new_folder(out)
    part = out.with_name(f".{out.name}.quantizing")
    part.mkdir(exist_ok=True)
    lock = part.with_name(part.name + ".lock")
    with lock.open("w") as held:
        _hold(held, out)
        if _key_of(part) != key:
            shutil.rmtree(part)
            part.mkdir()
            write_text(part / _KEY, json.dumps({"key": key}))
        try:
            yield part
        except (EdgeError, ValueError, RuntimeError):
            shutil.rmtree(part, ignore_errors=True)
            lock.unlink(missing_ok=True)
            raise
        (part / _KEY).unlink()
        _sync_all(part)
        if out.is_dir():
            out.rmdir()  # empty, or check_new_folder would have refused
        try:
            part.replace(out)
        except OSError as error:
            raise UsageError(f"{out} cannot be made: {error.strerror or error}") from error
        lock.unlink(missing_ok=True)


def _hold(held: object, out: Path) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[arg-type]
    except OSError as error:
        raise EdgeError(f"{out}: another process is making it; wait for that one") from error


def _key_of(part: Path) -> str | None:
    try:
        found = json.loads((part / _KEY).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found.get("key") if isinstance(found, dict) else None


def _sync_all(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        if os.name == "nt" and path.is_dir():
            continue
        fd = os.open(path, os.O_RDONLY if path.is_dir() or os.name != "nt" else os.O_RDWR)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
