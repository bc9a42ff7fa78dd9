"""TOML into frozen dataclasses, strictly: each key known, each there, each of its type."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from edge.errors import ArtifactError

T = TypeVar("T")

_NAMES = {str: "text", int: "a whole number >= 0", Mapping: "a table"}


def parse_manifest(kind: type[T], text: str, path: Path, version: int) -> T:
    """The dataclass `kind` out of TOML; path: for messages. version: the format that we read.

    A list becomes a tuple where the field is one. Raises ArtifactError, which names the place.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ArtifactError(
            f"{path} is not valid TOML: {error}; fetch or export it again"
        ) from error
    # First of all: in another version every other key may mean something else.
    found = document.get("format_version")
    if found != version:
        raise ArtifactError(
            f"{path}: format_version is {found}, this edgevoice reads {version}; "
            "update edgevoice, or export the artifact again"
        )
    parsed: T = _table(kind, document, "", path)
    return parsed


def _table(kind: Any, table: Mapping[str, object], at: str, path: Path) -> Any:
    types = get_type_hints(kind)
    dot = f"{at}." if at else ""
    for key in table:
        if key not in types:
            near = difflib.get_close_matches(key, types, n=1)
            hint = f"did you mean {dot}{near[0]}?" if near else f"known are {', '.join(types)}"
            raise ArtifactError(f"{path}: unknown key {dot}{key}; {hint}")
    for one in dataclasses.fields(kind):
        needed = one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
        if needed and one.name not in table:
            raise ArtifactError(f"{path}: {dot}{one.name} is missing; fetch or export it again")
    return kind(**{key: _value(types[key], value, dot + key, path) for key, value in table.items()})


def _value(kind: Any, value: object, at: str, path: Path) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if origin is tuple:
        if not isinstance(value, list):
            raise _wrong("a list", value, at, path)
        return tuple(_value(args[0], part, f"{at}[{i}]", path) for i, part in enumerate(value))
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise _wrong("a table", value, at, path)
        return _table(kind, value, at, path)
    if origin is Literal:
        if value not in args:
            raise _wrong(f"one of {', '.join(args)}", value, at, path)
        return value
    if origin is Mapping:
        if not isinstance(value, dict):
            raise _wrong("a table", value, at, path)
        return {key: _value(args[1], part, f"{at}.{key}", path) for key, part in value.items()}
    if kind is Any:
        return value
    choices = args if origin in (Union, UnionType) else (kind,)
    if not any(_is(choice, value) for choice in choices):
        raise _wrong(" or ".join(_NAMES[choice] for choice in choices), value, at, path)
    return value


def _is(kind: type, value: object) -> bool:
    """True is an int in Python, not in a manifest; no number in one is negative."""
    if isinstance(value, bool) or not isinstance(value, kind):
        return False
    return not isinstance(value, int) or value >= 0


def _wrong(wanted: str, value: object, at: str, path: Path) -> ArtifactError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return ArtifactError(f"{path}: {at} is {shown}; it must be {wanted}")
