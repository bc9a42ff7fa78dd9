"""Profiles: named sets of settings that the daemon can change to while it runs.

A profile is a file `profiles/NAME.toml` beside config.toml, with the same keys; it goes before the
files and after the command line. The built-in ones are for machines of different strength, chosen
by `edge plan` and by what was measured, not by a machine's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edge.config import check_toml
from edge.errors import ConfigError
from edge.paths import config_dir, system_config_file

_BUILT_IN: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "cascade": MappingProxyType({"talk.engine": "cascade"}),
        "duplex": MappingProxyType({"talk.engine": "duplex"}),
        # Four slow cores: short memory, no listening over the assistant's voice without hardware.
        "cascade-small": MappingProxyType(
            {"talk.engine": "cascade", "context.budget_tokens": 256, "loop.max_behind_frames": 4}
        ),
    }
)


def profile_names() -> tuple[str, ...]:
    """Every profile there is, built-in ones first."""
    found = list(_BUILT_IN)
    for folder in _folders():
        if folder.is_dir():
            found += sorted(path.stem for path in folder.glob("*.toml"))
    return tuple(dict.fromkeys(found))


def profile_settings(name: str) -> dict[str, Any]:
    """The settings of a profile by dotted name. Raises ConfigError."""
    if name not in profile_names():
        raise ConfigError(f"there is no profile {name!r}; there are {', '.join(profile_names())}")
    for folder in _folders():
        path = folder / f"{name}.toml"
        if path.is_file():
            return dict(check_toml(path.read_text(encoding="utf-8"), str(path)))
    return dict(_BUILT_IN[name])


def _folders() -> tuple[Path, ...]:
    return (config_dir() / "profiles", system_config_file().parent / "profiles")
