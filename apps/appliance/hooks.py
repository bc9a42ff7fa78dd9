"""Buttons and lights: a client of the daemon; states become light and presses become commands.

GPIO goes through the gpiod package where it is installed; a script hook needs nothing.
"""

from __future__ import annotations

import logging
import subprocess
import threading
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from apps.daemon.client import Client
from edge.errors import ConfigError, DeviceError, EdgeError, MissingPackageError
from edge.paths import config_dir, system_config_file

log = logging.getLogger(__name__)

FILE_NAME = "hooks.toml"
ACTIONS = ("talk", "toggle", "stop")
_LIT = ("listening", "thinking", "speaking")
_SCRIPT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Line:
    """One GPIO line."""

    chip: str
    line: int
    active_low: bool = True
    action: str = "talk"


@dataclass(frozen=True, slots=True)
class Hooks:
    """What hooks.toml asks for; None is "not there"."""

    script: str = ""
    button: Line | None = None
    light: Line | None = None


class Lamp(Protocol):
    """Something that is on or off."""

    def set(self, on: bool) -> None: ...


def read_hooks(path: Path | None = None) -> Hooks:
    """The hooks.toml of the user, else of the machine; Hooks() without one. Raises ConfigError."""
    places = [path] if path else [config_dir() / FILE_NAME, system_config_file().parent / FILE_NAME]
    found = next((each for each in places if each.is_file()), None)
    if found is None:
        return Hooks()
    try:
        facts = tomllib.loads(found.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{found}: {error}") from error
    if unknown := set(facts) - {"script", "button", "light"}:
        raise ConfigError(f"{found}: {unknown.pop()} is not known; there are script, button, light")
    script = facts.get("script", "")
    if not isinstance(script, str):
        raise ConfigError(f"{found}: script must be a path")
    return Hooks(script, _line(found, facts, "button"), _line(found, facts, "light"))


def _line(where: Path, facts: dict[str, Any], name: str) -> Line | None:
    found = facts.get(name)
    if found is None:
        return None
    kinds = {"chip": str, "line": int, "active_low": bool, "action": str}
    if not isinstance(found, dict) or not {"chip", "line"} <= set(found) <= set(kinds):
        raise ConfigError(f"{where}: [{name}] takes chip, line, active_low and action")
    for key, value in found.items():
        if type(value) is not kinds[key]:
            raise ConfigError(f"{where}: {name}.{key} is {value!r}")
    if found.get("action", "talk") not in ACTIONS:
        raise ConfigError(f"{where}: {name}.action is one of {', '.join(ACTIONS)}")
    return Line(**found)


def press(action: str, ask: Callable[..., Any], *, down: bool) -> None:
    """What a button does: hold to talk, or act when it is pressed."""
    if action == "talk":
        ask("talk", down=down)
    elif down:
        ask(action)


def show(state: str, hooks: Hooks, lamp: Lamp | None) -> None:
    """A state becomes light, and the script is told."""
    if lamp is not None:
        lamp.set(state in _LIT)
    if hooks.script:
        try:
            subprocess.run([hooks.script, state], timeout=_SCRIPT_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            log.warning("the hook %s failed: %s", hooks.script, error)


def run_hooks(hooks: Hooks) -> None:
    """Serve buttons and lights until the daemon ends. Raises EdgeError."""
    lamp = open_lamp(hooks.light) if hooks.light else None
    if hooks.button is not None:
        line = hooks.button
        watch = threading.Thread(target=lambda: _watch_button(line), daemon=True)
        watch.start()
    with Client() as client:
        client.send("watch")
        client.socket.settimeout(None)
        for found in client.lines():
            if "state" in found:
                show(str(found["state"]), hooks, lamp)


def _watch_button(line: Line) -> None:
    try:
        for down in presses(line):
            with Client() as client:
                press(line.action, client.ask, down=down)
    except EdgeError as error:
        log.warning("the button is of no use: %s", error)


def load_gpiod() -> Any:
    """The gpiod package. Raises MissingPackageError."""
    import importlib

    try:
        return importlib.import_module("gpiod")
    except ImportError as error:
        raise MissingPackageError("gpiod", extra="gpio", needed_for="a GPIO button") from error


def presses(line: Line) -> Any:
    """Endlessly: True when the button goes down, False when it comes up. Raises DeviceError."""
    gpiod = load_gpiod()
    settings = gpiod.LineSettings(
        edge_detection=gpiod.line.Edge.BOTH,
        bias=gpiod.line.Bias.PULL_UP if line.active_low else gpiod.line.Bias.PULL_DOWN,
        debounce_period=timedelta(milliseconds=10),
        active_low=line.active_low,
    )
    with _request(gpiod, line, settings) as request:
        while True:
            for event in request.read_edge_events():
                yield event.event_type is event.Type.RISING_EDGE


def open_lamp(line: Line) -> Lamp:
    """A light on a GPIO line. Raises DeviceError, MissingPackageError."""
    gpiod = load_gpiod()
    value = gpiod.line.Value
    settings = gpiod.LineSettings(direction=gpiod.line.Direction.OUTPUT)
    request = _request(gpiod, line, settings)

    class GpioLamp:
        def set(self, on: bool) -> None:
            request.set_value(line.line, value.ACTIVE if on else value.INACTIVE)

    return GpioLamp()


def _request(gpiod: Any, line: Line, settings: Any) -> Any:
    try:
        return gpiod.request_lines(
            f"/dev/{line.chip}", consumer="edgevoice", config={line.line: settings}
        )
    except OSError as error:
        raise DeviceError(f"{line.chip} line {line.line} cannot be used: {error}") from error
