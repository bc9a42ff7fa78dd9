"""A worker's side of a cluster: files kept by hash, models opened once, jobs done."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edge.atomic import atomic_path
from edge.errors import EdgeError, ModelDamagedError
from edge.hashing import sha256_of
from edge.paths import cache_dir, make_dir
from quant.measure.cache import Cache
from quant.measure.rows import Row
from quant.measure.speech import Utterance
from quant.measure.workers import Handler, Make


@dataclass(frozen=True, slots=True)
class Parcel:
    """A file or a folder: (relative name, sha256) of everything in it."""

    is_folder: bool
    files: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Clip:
    """An utterance whose file is a parcel."""

    utterance: Utterance
    parcel: Parcel


@dataclass(frozen=True, slots=True)
class Remote:
    """Stands for the worker's own cache folder."""


@dataclass(frozen=True, slots=True)
class Task:
    """make(*arguments) gives what does a job; paths in both are Parcels."""

    make: Make
    arguments: tuple[Any, ...]
    job: tuple[Any, ...]
    version: str


@dataclass(frozen=True, slots=True)
class Lacking:
    """The worker that has not got these files."""

    worker: str
    sha256: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """A job that cannot be done anywhere."""

    worker: str
    message: str


@dataclass(frozen=True, slots=True)
class Result:
    """What a job gave. sounds: file name -> content of the files that it names."""

    value: Any
    sounds: Mapping[str, bytes] = field(default_factory=dict)


class _DamagedError(Exception):
    """Files of the store that are not what they were."""

    def __init__(self, sha256: tuple[str, ...]) -> None:
        super().__init__(", ".join(sha256))
        self.sha256 = sha256


class _Bench:
    """What one worker process keeps open."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.placed: dict[Parcel, Path] = {}
        self.lock = threading.Lock()


def our_version() -> str:
    """What client and workers must have in common."""
    from quant.measure import cache

    return f"{importlib.metadata.version('edgevoice')}, results {cache.VERSION}"


def run_task(task: Task) -> Result | Lacking | Failure:
    """Do a job, or say which files are missing. Runs in a worker."""
    worker = importlib.import_module("distributed").get_worker()
    if our_version() != task.version:
        return Failure(worker.address, f"it has edgevoice {our_version()}, not {task.version}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    bench = worker.__dict__.setdefault("edge_bench", _Bench())
    with bench.lock:
        lacking = _lacking([*task.arguments, *task.job])
        if lacking:
            return Lacking(worker.address, tuple(sorted(lacking)))
        try:
            return _done(task, bench)
        except _DamagedError as error:
            return Lacking(worker.address, error.sha256)
        except EdgeError as error:
            return Failure(worker.address, str(error))


def keep_piece(sha256: str, offset: int, piece: bytes, *, last: bool) -> None:
    """Take a piece of a file; with the last one it is checked and kept. Runs in a worker.

    Raises ModelDamagedError where it is not what its hash says.
    """
    path = _blob(sha256)
    part = path.with_name(f"{path.name}.part")
    with part.open("wb" if offset == 0 else "r+b") as stream:
        stream.seek(offset)
        stream.write(piece)
        stream.truncate()
    if not last:
        return
    if sha256_of(part) != sha256:
        part.unlink()
        raise ModelDamagedError(f"file {sha256[:12]} was damaged on its way")
    part.replace(path)


def _done(task: Task, bench: _Bench) -> Result:
    key = repr((task.make.__module__, task.make.__qualname__, task.arguments))
    if key not in bench.handlers:
        bench.handlers[key] = task.make(*(_unpacked(one, bench) for one in task.arguments))
    value = bench.handlers[key](tuple(_unpacked(one, bench) for one in task.job))
    if not isinstance(value, Row):
        return Result(value)
    files = [Path(name) for name in value.sounds.values()]
    return Result(value, {path.name: path.read_bytes() for path in files})


def _unpacked(value: Any, bench: _Bench) -> Any:
    if isinstance(value, Clip):
        return replace(value.utterance, path=_placed(value.parcel, bench))
    if isinstance(value, Parcel):
        return str(_placed(value, bench))
    if isinstance(value, Remote):
        return str(Cache().folder)
    return value


def _placed(parcel: Parcel, bench: _Bench) -> Path:
    """Where a parcel lies under the names that it had; checked once by each process."""
    if parcel in bench.placed:
        return bench.placed[parcel]
    digest = hashlib.sha256(repr(parcel).encode()).hexdigest()
    root = _store() / "trees" / digest
    if not root.is_dir():
        _place(parcel, root)
    damaged = tuple(sha256 for name, sha256 in parcel.files if sha256_of(root / name) != sha256)
    if damaged:
        shutil.rmtree(root)
        for sha256 in damaged:
            _blob(sha256).unlink(missing_ok=True)
        raise _DamagedError(damaged)
    found = root if parcel.is_folder else root / parcel.files[0][0]
    bench.placed[parcel] = found
    return found


def _place(parcel: Parcel, root: Path) -> None:
    make_dir(root.parent)
    try:
        with atomic_path(root) as part:
            for name, sha256 in parcel.files:
                target = part / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(_blob(sha256), target)
    except EdgeError:
        if not root.is_dir():  # or else another worker of this machine was first
            raise


def _lacking(values: list[Any]) -> set[str]:
    parcels = [one.parcel if isinstance(one, Clip) else one for one in values]
    hashes = {sha for one in parcels if isinstance(one, Parcel) for _, sha in one.files}
    return {sha256 for sha256 in hashes if not _blob(sha256).is_file()}


def _blob(sha256: str) -> Path:
    return make_dir(_store() / "files") / sha256


def _store() -> Path:
    return cache_dir() / "cluster"
