"""PortAudio, the devices it sees, and a microphone that gives nothing but zeros."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from apps.checks.check import Check
from apps.checks.child import ChildResult, run_module
from edge.config import load_config
from edge.errors import EdgeError
from runtime.sound.device_info import DeviceInfo, Direction
from runtime.sound.devices import list_devices

NO_SOUND = "without it only audio files work"
PERMISSION = {
    "darwin": "allow the terminal to use it: System Settings, Privacy & Security, Microphone",
}
UNMUTE = "unmute it or choose another: pavucontrol or alsamixer, and `edge devices`"


def portaudio(result: ChildResult) -> Check:
    """Whether PortAudio can be loaded and lists devices, in a child that did so."""
    if result.fault:
        # The fault of a missing library says itself which package to install.
        return Check("portaudio", "fail", result.fault, NO_SOUND)
    return Check("portaudio", "ok", "loads and lists devices")


def devices(found: Sequence[DeviceInfo]) -> Check:
    """Whether there is a microphone and a speaker."""
    lacking = [way for way in ("input", "output") if not _able(found, way)]
    detail = ", ".join(f"{way}: {_chosen(found, way)}" for way in ("input", "output"))
    if lacking:
        remedy = f"plug in or enable an {' and an '.join(lacking)} device; {NO_SOUND}"
        return Check("devices", "warn", detail, remedy)
    return Check("devices", "ok", detail)


def _able(found: Sequence[DeviceInfo], direction: Direction) -> list[DeviceInfo]:
    return [device for device in found if device.can(direction)]


def _chosen(found: Sequence[DeviceInfo], direction: Direction) -> str:
    """The default device's name and how many others there are."""
    able = _able(found, direction)
    if not able:
        return "none"
    default = next((device for device in able if device.is_default(direction)), able[0])
    return f"{default.name} ({len(able)} in all)" if len(able) > 1 else default.name


def microphone(result: ChildResult, platform: str = sys.platform) -> Check:
    """What half a second of the microphone held. platform: as sys.platform."""
    if result.fault:
        return Check("microphone", "fail", result.fault)
    name, n_samples = result.facts["name"], result.facts["n_samples"]
    peak = float(str(result.facts["peak"]))
    if not n_samples:
        remedy = "restart the sound server, or unplug the device and plug it in again"
        return Check("microphone", "fail", f"{name} opens but gives no samples", remedy)
    if peak == 0.0:
        remedy = PERMISSION.get(platform, UNMUTE)
        return Check("microphone", "fail", f"{name} gives only exact zeros", remedy)
    return Check("microphone", "ok", f"{name}: {n_samples} samples, peak {peak:.4f}")


def check_portaudio() -> Check:
    """PortAudio of this machine."""
    return portaudio(run_module("runtime.sound.devices", timeout_s=15.0))


def check_devices() -> Check:
    """The devices of this machine."""
    try:
        return devices(list_devices())
    except EdgeError:
        return Check("devices", "warn", "not listed, see portaudio")


def check_microphone() -> Check:
    """The configured microphone, listened to in a child process."""
    try:
        found = list_devices()
    except EdgeError:
        return Check("microphone", "warn", "not tried, see portaudio")
    if not _able(found, "input"):
        return Check("microphone", "warn", "not tried, there is none")
    name = load_config().config.audio.input
    return microphone(run_module("apps.checks.microphone_child", *([name] if name else [])))
