"""`edge tray`: the icon, the menu and the windows of the daemon."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time

import click


@click.command()
@click.option("--no-tray", is_flag=True, help="A normal window, for desktops without a tray.")
@click.option("--start", is_flag=True, help="Start the daemon too, if none runs.")
@click.option("--measure", type=float, default=0.0, metavar="SECONDS", help="What it costs; JSON.")
@click.option("--theme", type=click.Choice(["light", "dark"]), default=None, help="Of the panel.")
def tray(no_tray: bool, start: bool, measure: float, theme: str | None) -> None:
    """Show the daemon in the tray: mute, talk, captions, history, privacy, doctor."""
    began_s = time.monotonic() - time.process_time()  # the interpreter's own start counts
    from edge.errors import MissingPackageError

    if importlib.util.find_spec("PySide6") is None:
        raise MissingPackageError("PySide6-Essentials", extra="tray", needed_for="the tray app")
    from apps.daemon.lock import running_pid
    from apps.privacy.seal import seal
    from edge.config import load_config

    if start and running_pid() is None:
        command = [sys.executable, "-m", "apps.cli", "serve"]
        if getattr(sys, "frozen", False):
            command = [sys.executable, "serve"]
        subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL)
    bus = os.environ.get("DBUS_SESSION_BUS_ADDRESS", "")
    # An abstract address lives in the network namespace that the seal leaves behind.
    seal(load_config().config.privacy.level, keep_session_bus=bool(bus))

    from apps.tray.app import run_tray

    found = run_tray(with_tray=not no_tray, began_s=began_s, measure_s=measure, theme=theme or "")
    if measure:
        click.echo(json.dumps(found))
