"""Put model files in place: written beside, hashed while written, and only then moved in.

A file in a model's folder is therefore whole and right, or it is not there; what an interrupted
command leaves lies in `.partial` and is used or swept up by the next one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from io import RawIOBase
from pathlib import Path

from edge.errors import DiskFullError, FetchError, ModelDamagedError
from edge.lock import LockFile
from edge.store import size_text

# Told how many bytes of the current step are done so far.
Progress = Callable[[int], None]

_CHUNK_BYTES = 1 << 20


@contextlib.contextmanager
def workplace(root: Path) -> Iterator[Path]:
    """The folder for unfinished files in the models folder, for one command at a time.

    Sweeps up what a killed command left, except `*.part`: downloads that can go on. Raises
    FetchError if another command is at work there, or if nothing can be written there.
    """
    partial = root / ".partial"
    try:
        partial.mkdir(parents=True, exist_ok=True)
        guard = os.open(partial / "lock", os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise FetchError(f"cannot write to {root} ({error.strerror})", hopeless=True) from error
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(guard)
        raise FetchError(
            f"another `edge models` command is at work in {root}; wait for it to end", hopeless=True
        ) from error
    try:
        for path in partial.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.suffix == ".tmp":
                path.unlink()
        yield partial
    finally:
        os.close(guard)  # lets go of the lock; so does the kernel if we are killed


def place(
    chunks: Iterable[bytes],
    file: LockFile,
    target: Path,
    *,
    partial: Path,
    progress: Progress,
) -> None:
    """Write `chunks` to `target` if they are the file of the lock, else leave nothing.

    Raises ModelDamagedError for other bytes, DiskFullError for a full disk; what `chunks` raises
    passes through.
    """
    temporary = partial / f"{file.sha256[:16]}.tmp"
    digest = hashlib.sha256()
    done_bytes = 0
    try:
        with full_disk_told(target):
            stream = temporary.open("wb", buffering=0)
        with stream:
            for chunk in chunks:
                done_bytes += len(chunk)
                if file.size_bytes is not None and done_bytes > file.size_bytes:
                    break  # too long already: the hash below says so
                with full_disk_told(target):
                    write_all(stream, chunk)
                digest.update(chunk)
                progress(done_bytes)
            with full_disk_told(target):
                os.fsync(stream.fileno())
        got = digest.hexdigest()
        if got != file.sha256:
            raise ModelDamagedError(
                f"{file.path} is not the file of the lock (sha256 {got[:12]}, lock says "
                f"{file.sha256[:12]}); it is not used"
            )
        move_in(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_all(stream: RawIOBase, chunk: bytes) -> None:
    """Write all of it: near the end of a disk an unbuffered write may take only some."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[stream.write(rest) or 0 :]


def move_in(temporary: Path, target: Path) -> None:
    """Rename a finished file to its place, and make the rename last through a power cut."""
    with full_disk_told(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_chunks(path: Path) -> Iterator[bytes]:
    """The file in pieces of 1 MiB."""
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk


@contextlib.contextmanager
def full_disk_told(target: Path) -> Iterator[None]:
    """Turn the errors of writing into one line that says where and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise disk_full(target) from error
        raise FetchError(f"cannot write {target} ({error.strerror or error})") from error


def disk_full(target: Path) -> DiskFullError:
    """The error for a disk that filled up on the way."""
    return DiskFullError(
        f"the disk is full: {target} could not be written; free some room and run the command "
        f"again, it goes on from here"
    )


def check_room(needs: Iterable[tuple[Path, int]], *, free_bytes: Callable[[Path], int]) -> None:
    """Refuse before the first byte if the disks have too little room.

    needs: folder (which may not exist yet) and the bytes that will go there; folders on the same
    disk add up. free_bytes: gives the free bytes at an existing folder. Raises DiskFullError.
    """
    by_disk: dict[int, tuple[Path, int]] = {}
    for folder, need_bytes in needs:
        while not folder.exists():
            folder = folder.parent  # noqa: PLW2901 - the nearest folder that exists
        disk = folder.stat().st_dev
        by_disk[disk] = (folder, need_bytes + by_disk.get(disk, (folder, 0))[1])
    for folder, need_bytes in by_disk.values():
        free = free_bytes(folder)
        if free < need_bytes:
            raise DiskFullError(
                f"too little room at {folder}: {size_text(need_bytes)} needed, {size_text(free)} "
                f"free; free at least {size_text(need_bytes - free)} and run the command again"
            )


def free_bytes_at(folder: Path) -> int:
    """Bytes that this user can still write at an existing folder."""
    return shutil.disk_usage(folder).free
