"""Files that are whole or not there: written beside their place, synced, then moved into it."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from edge.errors import EdgeError

# What no program can help: the message says how to make room.
_FULL = MappingProxyType(
    {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "your share of the disk is used up",
        errno.EFBIG: "a limit on the size of one file is reached",  # ulimit -f, FAT32
    }
)
_SUFFIX = ".part"
# Only a killed process leaves a part behind; nobody still writes to one as old as this.
_STALE_S = 24 * 3600


def write_bytes(path: Path, data: bytes) -> None:
    """Put data into the file, all of it or none. Raises EdgeError."""
    with atomic_path(path) as part:
        try:
            part.write_bytes(data)
        except OSError as error:
            raise write_error(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Put text into the file as UTF-8, line ends as they are, all or nothing. Raises EdgeError."""
    write_bytes(path, text.encode("utf-8"))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write a file or a whole folder to; move it there at the end.

    Until the block has ended well, `path` is what it was; after any error or interrupt in it the
    part is removed. A file replaces a file and keeps its permissions; a folder may only take the
    place of nothing or of an empty folder. A link is followed: what it points to is replaced.
    Raises EdgeError, one line, when the folder is missing, cannot be written, or the disk is full.
    """
    target = Path(os.path.realpath(path))
    _check_folder(target.parent, path)
    _remove_stale(target)
    part = target.with_name(_part_name(target.name))
    try:
        try:
            yield part
        except OSError as error:
            if error.errno in _FULL:
                raise write_error(path, error) from error
            raise
        try:
            _move(part, target)
        except OSError as error:
            raise write_error(path, error) from error
    except BaseException:
        _remove(part)
        raise


def _part_name(name: str) -> str:
    """A fresh name for the unfinished form of a file: hidden, and never two alike."""
    # File systems allow 255 bytes a name; a long one is cut, the random part keeps it apart.
    cut = os.fsencode(name)[:200].decode("utf-8", "ignore")
    return f".{cut}.{secrets.token_hex(8)}{_SUFFIX}"


def _check_folder(folder: Path, path: Path) -> None:
    """Refuse to write where there is no folder: a missing one is more often a typing error."""
    if not folder.is_dir():
        raise EdgeError(f"{path} cannot be written: there is no folder {folder}; create it first")


def write_error(path: Path, error: OSError) -> EdgeError:
    """The one line for a write that failed: which file, why, and for a full disk what is free."""
    reason = _FULL.get(error.errno or 0)
    if reason is None:
        return EdgeError(f"{path} cannot be written: {error.strerror or error}")
    folder = Path(os.path.realpath(path)).parent
    try:
        free_mb = f"{shutil.disk_usage(folder).free / 1e6:.1f} MB"
    except OSError:
        free_mb = "an unknown amount"
    return EdgeError(
        f"{path} cannot be written: {reason} ({free_mb} free in {folder}); "
        "make room or choose another place"
    )


def _move(part: Path, target: Path) -> None:
    """Sync the part to the disk, then rename it; the order is what makes a power cut harmless."""
    if part.is_dir():
        for folder, _, names in os.walk(part):
            for name in names:
                _sync(Path(folder, name))
            _sync(Path(folder))
    else:
        if target.exists():
            shutil.copymode(target, part)
        _sync(part)
    part.replace(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":
        return  # Windows has no way to sync a folder
    # Windows refuses to sync what is open for reading only.
    fd = os.open(path, os.O_RDONLY if is_folder or os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove(part: Path) -> None:
    if part.is_dir() and not part.is_symlink():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)


def _remove_stale(target: Path) -> None:
    """Clear away what a killed process left of the same file long ago."""
    pattern = _part_name(target.name)
    stem = pattern.rsplit(".", 2)[0] + "."
    with suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if not (entry.name.startswith(stem) and entry.name.endswith(_SUFFIX)):
                continue
            if len(entry.name) != len(pattern):
                continue  # the part of another file, whose name only begins alike
            if time.time() - entry.stat(follow_symlinks=False).st_mtime > _STALE_S:
                _remove(Path(entry.path))
