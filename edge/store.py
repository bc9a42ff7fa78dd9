"""Where models lie on this machine, and proof that they are the ones in models.lock.

A file is looked for in the models folder first, then in the installed distribution that the lock
names. Its sha256 is computed every time: the starter set takes well under a second. Nothing here
touches the network.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edge.errors import ModelDamagedError, ModelError, ModelMissingError
from edge.hashing import sha256_of
from edge.lock import Lock, LockEntry, LockFile, PackageSource
from edge.paths import data_dir

FileState = Literal["present", "missing", "damaged"]

_HASH_THREADS = 4


def size_text(size_bytes: int | None) -> str:
    """A size as people read it: "78.1 MB"; "size unknown" for None."""
    if size_bytes is None:
        return "size unknown"
    if size_bytes < 1_000_000:
        return f"{size_bytes / 1e3:.1f} kB"
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes < 1e9 else f"{size_bytes / 1e9:.2f} GB"


@dataclass(frozen=True, slots=True)
class FileCheck:
    """What was found of one file. path: where, None if nowhere; fault: what is wrong with it."""

    file: LockFile
    state: FileState
    path: Path | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class ModelStore:
    """The models of a lock on this machine.

    root: the models folder, by default the one in the user's data folder; it need not exist.
    """

    lock: Lock
    root: Path = field(default_factory=lambda: data_dir() / "models")

    def home(self, name: str) -> Path:
        """The folder that holds, or would hold, what was fetched or imported of a model."""
        return self.root / self.lock.get(name).name

    def check(self, name: str, *, hashed: bool = True) -> tuple[FileCheck, ...]:
        """Look at every file of a model, in the order of the lock; never raises for what it finds.

        hashed: False compares sizes only, for a list of what is there.
        """
        entry = self.lock.get(name)
        if not hashed:
            return tuple(self._check_file(entry, file, hashed=False) for file in entry.files)
        # sha256 runs outside the interpreter lock.
        with ThreadPoolExecutor(min(_HASH_THREADS, os.cpu_count() or 1)) as pool:
            return tuple(
                pool.map(lambda file: self._check_file(entry, file, hashed=True), entry.files)
            )

    def status(self, name: str, *, hashed: bool = True) -> Mapping[str, FileState]:
        """File path -> "present", "missing" or "damaged"."""
        return {check.file.path: check.state for check in self.check(name, hashed=hashed)}

    def files(self, name: str) -> Mapping[str, Path]:
        """File path -> absolute path of each file of a model, all of them verified just now.

        Raises ModelDamagedError or ModelMissingError, with what to do; UsageError for a name that
        the lock has not.
        """
        entry = self.lock.get(name)
        checks = self.check(name)
        for check in checks:
            if check.state == "damaged":
                raise ModelDamagedError(
                    f"{name}: {check.path} is damaged ({check.fault}); "
                    f"run: edge models fetch {name}"
                )
        missing = [check.file for check in checks if check.state == "missing"]
        if missing:
            raise ModelMissingError(missing_text(entry, missing))
        return {check.file.path: check.path for check in checks if check.path is not None}

    def directory(self, name: str) -> Path:
        """The one folder that holds every file of a model, all verified just now.

        Raises as `files`; ModelError where the files lie in several folders.
        """
        folders = {path.parents[relative.count("/")] for relative, path in self.files(name).items()}
        if len(folders) > 1:
            raise ModelError(
                f"{name}: its files lie in several folders; bring them together with: "
                f"edge models import {' '.join(sorted(map(str, folders)))}"
            )
        return folders.pop()

    def _check_file(self, entry: LockEntry, file: LockFile, *, hashed: bool) -> FileCheck:
        worst = FileCheck(file, "missing")
        for path in self._candidates(entry, file):
            fault = _fault(path, file, hashed=hashed)
            if not fault:
                return FileCheck(file, "present", path)
            if worst.state == "missing":
                worst = FileCheck(file, "damaged", path, fault)
        return worst

    def _candidates(self, entry: LockEntry, file: LockFile) -> Iterator[Path]:
        """Existing files that should be this one, ours before the installed package's."""
        own = (self.root / entry.name / file.path).absolute()
        if own.is_file():
            yield own
        # A bundle carries the starter models with it; PyInstaller tells it where.
        if bundle := getattr(sys, "_MEIPASS", ""):
            carried = Path(bundle, "models", entry.name, file.path)
            if carried.is_file():
                yield carried
        for source in entry.sources:
            if isinstance(source, PackageSource) and file.path in source.files:
                path = _in_distribution(source, file)
                if path is not None:
                    yield path


def missing_text(entry: LockEntry, missing: list[LockFile]) -> str:
    """One line: which model is not here, how big it is, and the two ways to get it."""
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return (
        f"model {entry.name} ({size_text(entry.size_bytes)}) is not on this machine: no "
        f"{missing[0].path}{more}; run: edge models fetch {entry.name} "
        f"(without network: edge models import PATH)"
    )


def _fault(path: Path, file: LockFile, *, hashed: bool) -> str:
    """Why this is not the file of the lock; "" if it is."""
    try:
        size_bytes = path.stat().st_size
        if file.size_bytes is not None and size_bytes != file.size_bytes:
            return f"{size_bytes} bytes, lock says {file.size_bytes}"
        got = sha256_of(path) if hashed else file.sha256
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if got != file.sha256:
        return f"sha256 {got[:12]}, lock says {file.sha256[:12]}"
    return ""


def _in_distribution(source: PackageSource, file: LockFile) -> Path | None:
    """The file inside the installed distribution, if that is installed in the locked version.

    What comes with edgevoice itself lies beside this package, also where it runs from a checkout.
    """
    if source.distribution == "edgevoice":
        path = Path(__file__).resolve().parents[1] / (source.prefix + file.path)
        return path if path.is_file() else None
    try:
        distribution = importlib.metadata.distribution(source.distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
    if distribution.version != source.version:
        return None  # another version holds other bytes: not damage
    path = Path(str(distribution.locate_file(source.prefix + file.path))).absolute()
    return path if path.is_file() else None
