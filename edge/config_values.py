"""What settings exist, and what each may be: reading text, checking values, naming the nearest."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, get_type_hints

from edge.config_tables import Config
from edge.errors import ConfigError

_BOOLS = MappingProxyType(
    {
        **dict.fromkeys(("1", "true", "yes", "on"), True),
        **dict.fromkeys(("0", "false", "no", "off"), False),
    }
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One key: its table and name, its type (str, bool, int, float, tuple[str, ...]) and limits.

    limits: "choices", "low" and "high", or "filled", as config_tables declares them.
    """

    table: str
    key: str
    type: Any
    default: object
    limits: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Dotted, as commands and messages write it: talk.engine."""
        return f"{self.table}.{self.key}"

    @property
    def variable(self) -> str:
        """Its environment variable: EDGE_TALK_ENGINE."""
        return f"EDGE_{self.table}_{self.key}".upper()


def settings() -> dict[str, Setting]:
    """Every setting there is, by its dotted name, in the order of the tables."""
    found = {}
    for table, kind in get_type_hints(Config).items():
        types = get_type_hints(kind)
        for field in dataclasses.fields(kind):
            one = Setting(table, field.name, types[field.name], field.default, field.metadata)
            found[one.name] = one
    return found


def parse_value(name: str, value: object, where: str) -> Any:
    """The value of a setting, checked; text is read as its type, as in the environment.

    Text for a list is split at commas. Raises ConfigError, also for a name that is no setting.
    """
    one = settings().get(name)
    if one is None:
        raise ConfigError(f"{where}: {name} is not a setting; {nearest(name)}")
    if isinstance(value, str):
        value = from_text(one, value)
    return checked(one, value, where)


def from_text(one: Setting, text: str) -> object:
    """Text as the setting's type; what cannot be read stays text, and fails its check.

    A list's text is split at commas.
    """
    if one.type is bool:
        return _BOOLS.get(text.strip().lower(), text)
    if one.type in (int, float):
        try:
            return one.type(text)
        except ValueError:
            return text
    if one.type is str:
        return text
    return tuple(part.strip() for part in text.split(",") if part.strip())


def checked(one: Setting, value: object, where: str) -> object:
    """The value in the setting's type, if it may be that. where: file or variable, for messages.

    Raises ConfigError.
    """
    if isinstance(value, list):
        value = tuple(value)
    if not _fits(one, value):
        shown = list(value) if isinstance(value, tuple) else value
        raise ConfigError(f"{where}: {one.name} is {shown!r}; it must be {_wanted(one)}")
    return float(value) if one.type is float and isinstance(value, int) else value


def _fits(one: Setting, value: object) -> bool:
    if isinstance(value, bool) or one.type is bool:
        return isinstance(value, bool) and one.type is bool
    if isinstance(value, int | float):
        low, high = one.limits.get("low", -math.inf), one.limits.get("high", math.inf)
        number = one.type is float or (one.type is int and isinstance(value, int))
        return number and bool(low <= value <= high)  # never true for NaN
    if isinstance(value, tuple):
        texts = one.type not in (str, int, float)
        return texts and all(isinstance(part, str) and part.strip() for part in value)
    if not isinstance(value, str) or one.type is not str:
        return False
    if "choices" in one.limits:
        return value in one.limits["choices"]
    return bool(value.strip()) or "filled" not in one.limits


def _wanted(one: Setting) -> str:
    """What a message says the value must be."""
    if "choices" in one.limits:
        return " or ".join(f'"{choice}"' for choice in one.limits["choices"])
    words = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}
    word: str = words.get(one.type, 'a list of texts, such as ["stop"]')
    if "low" in one.limits:
        word += f" from {one.limits['low']} to {one.limits['high']}"
    return word + (" that is not empty" if "filled" in one.limits else "")


def nearest(name: str, *, variable: bool = False) -> str:
    """The way out for a table or dotted key that does not exist, as the end of a message.

    variable: name settings by their environment variables.
    """
    known = settings().values()
    table, _, key = name.rpartition(".")
    inside = {one.key: one for one in known if one.table == table}
    # The right key in the wrong table is no typing error, and the commonest mistake of all.
    found = next((one for one in known if one.key == key), None)
    if found is None and not inside:
        tables = list(dict.fromkeys(one.table for one in known))
        near = difflib.get_close_matches(name, tables, n=1)
        return f"did you mean [{near[0]}]?" if near else f"there are {', '.join(tables)}"
    if found is None:
        keys = difflib.get_close_matches(key, inside, n=1)
        found = inside[keys[0]] if keys else None
    if found is None:
        shown = [one.variable if variable else one.key for one in inside.values()]
        return f"there are {', '.join(shown)}"
    return f"did you mean {found.variable if variable else found.name}?"
