"""Which sound devices are there now, and which of them is meant: by name, never by number."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from edge.errors import DeviceError, EdgeError

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


def child_command() -> list[str]:
    """Command line of a child process that runs `child_main`."""
    return [sys.executable, "-m", "runtime.sound.devices"]


def list_devices(
    *, timeout_s: float = 10.0, command: Sequence[str] | None = None
) -> list[DeviceInfo]:
    """Look for sound devices in a short child process.

    PortAudio's own list is frozen when it is initialised, and initialising it again would end the
    streams of this process; a child always sees what is plugged in now.
    command: another command line that ends in `child_main`, for programs without `python -m`.
    Raises DeviceError: no PortAudio, no answer within timeout_s; MissingPackageError.
    """
    try:
        done = subprocess.run(
            command or child_command(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"the sound system did not list its devices within {timeout_s:g} s; "
            "restart the sound server (PipeWire or PulseAudio) or unplug the device that hangs"
        ) from error
    return _parse(done.stdout, done.returncode, done.stderr)


def _parse(stdout: str, returncode: int, stderr: str) -> list[DeviceInfo]:
    """Read the child's one line of JSON; whatever libraries print around it is not looked at."""
    lines = stdout.strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if lines else {}
        if "error" in answer:
            raise DeviceError(str(answer["error"]))
        return [DeviceInfo(**entry) for entry in answer["devices"]]
    except (ValueError, KeyError, TypeError) as error:
        last = (stderr.strip().splitlines() or ["nothing"])[-1]
        raise DeviceError(
            f"listing the sound devices ended with exit code {returncode} and said: {last}; "
            "`edge doctor` tells more"
        ) from error


def child_main() -> int:
    """Print this process's devices, or why there are none, as one line of JSON on stdout."""
    from runtime.sound.card.portaudio import PortAudio

    try:
        answer: dict[str, object] = {"devices": [asdict(d) for d in PortAudio().devices()]}
    except EdgeError as error:
        answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


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


if __name__ == "__main__":
    sys.exit(child_main())
