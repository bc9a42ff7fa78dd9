"""`edge appliance`: make a machine that only talks, check it, take it back."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from apps.cli.options import json_option

if TYPE_CHECKING:
    from apps.appliance.install import Step

_ROOT = click.option(
    "--root", type=click.Path(path_type=Path, file_okay=False), default=Path("/"), metavar="DIR",
    show_default=True, help="The machine's root, such as a mounted image.",
)  # fmt: skip
_DRY = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
_NEXT = """next:  systemd-sysusers && systemd-tmpfiles --create && udevadm control --reload
       systemctl daemon-reload && systemctl enable --now edgevoice.socket edgevoice.service
       edge appliance guide          (as the user edgevoice, with the service stopped)"""


@click.group()
def appliance() -> None:
    """Make a machine that only talks, check it, take it back."""


@appliance.command()
@_ROOT
@_DRY
@click.option("--edge", "edge_path", metavar="PATH", help="The edge command on that machine.")
@click.option("--model", default="", metavar="DIR", help="A duplex model to plan for.")
@json_option
def install(root: Path, dry_run: bool, edge_path: str | None, model: str, as_json: bool) -> None:
    """Write units, udev rules, a PipeWire drop-in, log rotation and settings."""
    from apps.appliance.install import install as write_files
    from apps.appliance.layout import planned_files
    from apps.appliance.profile import choose, measure

    edge = edge_path or _own_path()
    profile = choose(measure(model))
    files = planned_files(profile, edge, has_gpio=_has_group(root, "gpio"))
    steps = write_files(files, root, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps({"profile": asdict(profile), "steps": _facts(steps)}))
        return
    click.echo(f"profile: {profile.reason}")
    _show(steps, dry_run=dry_run)
    if edge.startswith(("/home/", "/root/")):
        click.secho(f"{edge} is in a home folder, which the unit cannot see; move it", fg="yellow")
    if not dry_run:
        click.echo(_NEXT)


@appliance.command()
@_ROOT
@json_option
def check(root: Path, as_json: bool) -> int:
    """Whether everything is as it was installed; exit code 1 if not."""
    from apps.appliance.install import check as look
    from apps.checks.check import Check
    from apps.cli.doctor import line, report

    lines = look(root) or (
        Check("appliance", "fail", f"nothing is installed under {root}", "edge appliance install"),
    )
    found = report(lines)
    if as_json:
        click.echo(json.dumps(found))
    else:
        for each in lines:
            click.echo(line(each))
    return 0 if found["ok"] else 1


@appliance.command()
@_ROOT
@_DRY
@json_option
def uninstall(root: Path, dry_run: bool, as_json: bool) -> None:
    """Remove what was installed; what you have changed stays."""
    from apps.appliance.install import uninstall as remove

    steps = remove(root, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps({"steps": _facts(steps)}))
    else:
        _show(steps, dry_run=dry_run)


@appliance.command()
def hooks() -> None:
    """Serve the buttons and lights of hooks.toml, until the daemon ends."""
    from apps.appliance.hooks import read_hooks, run_hooks
    from apps.privacy.seal import seal

    seal("sealed")
    run_hooks(read_hooks())


@appliance.command()
@click.option("--input", "input_file", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--output", type=click.Path(path_type=Path), metavar="WAV")
def guide(input_file: Path | None, output: Path | None) -> int:
    """A spoken tour: speaker, microphone, what to say. Exit code 1 if one of them is of no use."""
    from apps.privacy.seal import seal
    from edge.config import load_config

    config = load_config().config
    sealed = seal(config.privacy.level)

    from apps.appliance.guide import run_guide
    from apps.appliance.hooks import read_hooks
    from apps.wake import wake_phrase
    from edge.lock import read_lock
    from edge.store import ModelStore
    from runtime.clock import SystemClock
    from runtime.models.tts import Voice
    from runtime.sound.card.connect import Wish
    from runtime.sound.device import DevicePort, DeviceSettings
    from runtime.sound.files import FilePort
    from runtime.sound.port import AudioPort
    from runtime.sound.recording import RecordingPort

    voice = Voice(ModelStore(read_lock()).files(config.models.tts))
    clock = SystemClock()
    wish = Wish(config.audio.input or None, config.audio.output or None)
    port: AudioPort = DevicePort(DeviceSettings(wish), clock)
    if input_file is not None:
        port = FilePort((input_file,), clock)
    if output is not None:
        port = RecordingPort(port, output, stereo=True)
    button = read_hooks().button is not None
    useful = run_guide(
        port, lambda text: voice.speak(text, seed=0).pcm, click.echo,
        sealed=sealed.level, button=button, failed=(), phrase=wake_phrase(config.wake),
    )  # fmt: skip
    return 0 if useful else 1


def _own_path() -> str:
    found = shutil.which("edge") or str(Path(sys.executable).with_name("edge"))
    return str(Path(found).absolute())


def _has_group(root: Path, name: str) -> bool:
    groups = root / "etc/group"
    return groups.is_file() and any(
        line.startswith(f"{name}:") for line in groups.read_text(encoding="utf-8").splitlines()
    )


def _facts(steps: tuple[Step, ...]) -> list[dict[str, str]]:
    return [{"action": step.action, "path": str(step.path), "why": step.why} for step in steps]


def _show(steps: tuple[Step, ...], *, dry_run: bool) -> None:
    for step in steps:
        would = "would " if dry_run and step.action in ("write", "remove") else ""
        click.echo(f"{would}{step.action:<7} {step.path}{f'  ({step.why})' if step.why else ''}")
