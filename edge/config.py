"""Reading the settings: from where each value comes, and whether it may be what it is.

A value is taken from the first place that has one: a command's flag, an EDGE_TABLE_KEY variable of
the environment, the user's config.toml, the machine's config.toml, the default.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

from edge.config_tables import (
    AudioConfig,
    Config,
    ContextConfig,
    CpuConfig,
    DuplexConfig,
    HistoryConfig,
    LoopConfig,
    ModelsConfig,
    PrivacyConfig,
    TalkConfig,
    TurnsConfig,
    WakeConfig,
)
from edge.config_values import (
    Setting,
    checked,
    from_text,
    nearest,
    parse_value,
    settings,
)
from edge.errors import ConfigError
from edge.paths import system_config_file, user_config_file

__all__ = [
    "AudioConfig",
    "Config",
    "ContextConfig",
    "CpuConfig",
    "DuplexConfig",
    "HistoryConfig",
    "Loaded",
    "LoopConfig",
    "ModelsConfig",
    "PrivacyConfig",
    "Setting",
    "TalkConfig",
    "TurnsConfig",
    "WakeConfig",
    "check_toml",
    "load_config",
    "parse_value",
    "settings",
]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings in force. origins: for each "table.key", where its value came from."""

    config: Config
    origins: Mapping[str, str]


def load_config(
    flags: Mapping[str, object] | None = None,
    *,
    env: Mapping[str, str] | None = None,
    user_file: Path | None = None,
    system_file: Path | None = None,
) -> Loaded:
    """Bring the settings together.

    flags: dotted names and values; None is an option that was not given. env: None is this
    process's. user_file, system_file: None is the usual place; a file that is missing says nothing.
    Raises ConfigError, which names the place, the key and the nearest one that exists.
    """
    env = os.environ if env is None else env
    user_file = user_config_file(env) if user_file is None else user_file
    system_file = system_config_file() if system_file is None else system_file
    values = {name: one.default for name, one in settings().items()}
    origins = dict.fromkeys(values, "default")
    for path in (system_file, user_file):
        from_file = _read_file(path)
        values.update(from_file)
        origins.update(dict.fromkeys(from_file, str(path)))
    for name, (variable, value) in _read_env(env).items():
        values[name], origins[name] = value, f"environment {variable}"
    for name, value in (flags or {}).items():
        if value is not None:
            values[name], origins[name] = parse_value(name, value, "command line"), "flag"
    return Loaded(_build(values, origins), MappingProxyType(origins))


def check_toml(text: str, where: str) -> dict[str, object]:
    """The settings that a config.toml's text gives, by dotted name; together with the defaults
    they must be possible. where: what messages call the text. Raises ConfigError.
    """
    given = _read_toml(text, where)
    defaults = {name: one.default for name, one in settings().items()}
    origins = {**dict.fromkeys(defaults, "default"), **dict.fromkeys(given, where)}
    _build({**defaults, **given}, origins)
    return given


def _read_file(path: Path) -> dict[str, object]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text; save it as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    return _read_toml(text, str(path))


def _read_toml(text: str, where: str) -> dict[str, object]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where} is not valid TOML: {error}") from error
    known, found = settings(), {}
    tables = list(dict.fromkeys(one.table for one in known.values()))
    for table, content in document.items():
        if table not in tables:
            raise ConfigError(f"{where}: [{table}] is not a table of settings; {nearest(table)}")
        if not isinstance(content, dict):
            raise ConfigError(f"{where}: {table} must be a table: write [{table}] above its keys")
        for key, value in content.items():
            one = known.get(f"{table}.{key}")
            if one is None:
                raise ConfigError(
                    f"{where}: {table}.{key} is not a setting; {nearest(f'{table}.{key}')}"
                )
            found[one.name] = checked(one, value, where)
    return found


def _read_env(env: Mapping[str, str]) -> dict[str, tuple[str, object]]:
    """Dotted name -> (variable, value). EDGE_CONFIG_DIR and the like belong to no table."""
    by_variable = {one.variable: one for one in settings().values()}
    tables = {f"EDGE_{one.table}_".upper(): one.table for one in by_variable.values()}
    found: dict[str, tuple[str, object]] = {}
    for variable in sorted(name for name in env if name.startswith(tuple(tables))):
        one = by_variable.get(variable)
        if one is None:
            prefix = next(prefix for prefix in tables if variable.startswith(prefix))
            key = variable.removeprefix(prefix).lower()
            raise ConfigError(
                f"environment: {variable} is not a setting; "
                f"{nearest(f'{tables[prefix]}.{key}', variable=True)}"
            )
        value = checked(one, from_text(one, env[variable]), f"environment {variable}")
        found[one.name] = (variable, value)
    return found


def _build(values: Mapping[str, Any], origins: Mapping[str, str]) -> Config:
    """The Config of checked values, once they also fit each other."""
    config = Config(
        **{
            table: kind(**{f.name: values[f"{table}.{f.name}"] for f in dataclasses.fields(kind)})
            for table, kind in get_type_hints(Config).items()
        }
    )
    turns = config.turns
    if turns.policy == "adaptive" and turns.max_pause_ms < turns.end_silence_ms:
        raise ConfigError(
            f"turns.max_pause_ms is {turns.max_pause_ms} ({origins['turns.max_pause_ms']}) and "
            f"turns.end_silence_ms is {turns.end_silence_ms} ({origins['turns.end_silence_ms']}); "
            "the pause must not be the shorter: change one of them"
        )
    return config
