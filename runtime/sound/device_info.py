"""A sound device as a value, and which of several is meant: by name, never by number."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from edge.errors import DeviceError

Direction = Literal["input", "output"]

# ALSA numbers cards in the order they were plugged in; the number is no part of a device's name.
_CARD_NUMBER = re.compile(r"\s*\(hw:\d+,\d+\)$")


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """One sound device as PortAudio names it.

    host_api: the system's sound interface it is reached through, such as "ALSA" or "Core Audio".
    n_inputs, n_outputs: channels at most; 0 means it cannot be used in that direction.
    default_rate_hz: what it runs at by itself. is_default_*: the system's choice.
    """

    name: str
    host_api: str
    n_inputs: int
    n_outputs: int
    default_rate_hz: int
    is_default_input: bool
    is_default_output: bool

    @property
    def label(self) -> str:
        """Name and host API, unique where two interfaces offer the same device."""
        return f"{self.name}, {self.host_api}"

    def can(self, direction: Direction) -> bool:
        """Whether it has channels in that direction."""
        return (self.n_inputs if direction == "input" else self.n_outputs) > 0

    def is_default(self, direction: Direction) -> bool:
        """Whether the system would choose it for that direction."""
        return self.is_default_input if direction == "input" else self.is_default_output


def match(devices: Sequence[DeviceInfo], wanted: str, direction: Direction) -> DeviceInfo:
    """Find the device that a name means.

    In this order: the exact name (or "name, host API"), the name in any case, the name without
    ALSA's card number, then a part of exactly one name. Where several host APIs offer one name the
    system's default wins, then the first listed. Raises DeviceError that lists what is there.
    """
    able = [device for device in devices if device.can(direction)]
    folded = wanted.casefold().strip()
    rules: tuple[Callable[[DeviceInfo], bool], ...] = (
        lambda d: wanted in {d.name, d.label},
        lambda d: folded in {d.name.casefold(), d.label.casefold()},
        lambda d: _stable_name(d.name) == _stable_name(wanted),
    )
    for rule in rules:
        if found := [device for device in able if rule(device)]:
            return _preferred(found, able, direction)
    parts = [device for device in able if folded and folded in device.label.casefold()]
    if len({device.name for device in parts}) == 1:
        return _preferred(parts, able, direction)
    what = "is not one of" if not parts else "means more than one of"
    raise DeviceError(
        f"the {direction} device {wanted!r} {what} those here: {_names(parts or able)}; "
        "`edge devices` lists them"
    )


def default_device(devices: Sequence[DeviceInfo], direction: Direction) -> DeviceInfo:
    """Give the system's choice, or the first device that can. Raises DeviceError if none can."""
    able = [device for device in devices if device.can(direction)]
    chosen = [device for device in able if device.is_default(direction)] or able
    if not chosen:
        what = "microphone" if direction == "input" else "speaker"
        raise DeviceError(
            f"there is no {what} here; plug one in, or talk through files with --input and --output"
        )
    return chosen[0]


def _stable_name(name: str) -> str:
    return _CARD_NUMBER.sub("", name).casefold().strip()


def _preferred(
    found: Sequence[DeviceInfo], able: Sequence[DeviceInfo], direction: Direction
) -> DeviceInfo:
    host_apis = {device.host_api for device in able if device.is_default(direction)}
    return next((device for device in found if device.host_api in host_apis), found[0])


def _names(devices: Sequence[DeviceInfo]) -> str:
    return ", ".join(sorted({repr(device.name) for device in devices})) or "none"
