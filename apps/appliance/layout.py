"""Which files make an appliance, where they go and what is in them; pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from string import Template

from apps.appliance.profile import Profile

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Planned:
    """One file. path: absolute, as on the running machine. settings: the owner may change it, so it
    is never overwritten or removed once it differs.
    """

    path: PurePosixPath
    text: str
    mode: int = 0o644
    settings: bool = False


# Template -> its place; *.toml files are the owner's.
_PLACES = {
    "edgevoice.service": "/etc/systemd/system/edgevoice.service",
    "edgevoice.socket": "/etc/systemd/system/edgevoice.socket",
    "edgevoice-hooks.service": "/etc/systemd/system/edgevoice-hooks.service",
    "sysusers.conf": "/etc/sysusers.d/edgevoice.conf",
    "tmpfiles.conf": "/etc/tmpfiles.d/edgevoice.conf",
    "pipewire.conf": "/etc/pipewire/pipewire.conf.d/50-edgevoice-echo-cancel.conf",
    "udev.rules": "/etc/udev/rules.d/70-edgevoice.rules",
    "logrotate.conf": "/etc/logrotate.d/edgevoice",
    "config.toml": "/etc/edgevoice/config.toml",
    "hooks.toml": "/etc/edgevoice/hooks.toml",
}


def planned_files(profile: Profile, edge: str, *, has_gpio: bool) -> tuple[Planned, ...]:
    """Every file of an appliance. edge: the command on the machine. has_gpio: the group exists."""
    devices = "\n".join(f"DeviceAllow={path} rw" for path in profile.devices)
    words = {
        "edge": edge,
        "groups": " ".join(profile.groups),
        "hook_groups": "gpio" if has_gpio else "",
        "devices": devices,
        "memory_max": f"{profile.memory_max_mb}M",
        "engine": profile.engine,
        "budget_tokens": profile.budget_tokens,
        "cores": profile.cores,
        "reason": profile.reason,
    }
    return tuple(
        Planned(
            PurePosixPath(place),
            Template((_TEMPLATES / name).read_text(encoding="utf-8")).substitute(words),
            settings=name.endswith(".toml"),
        )
        for name, place in _PLACES.items()
    )
