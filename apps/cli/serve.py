"""`edge serve`: the daemon that holds sound and models."""

from __future__ import annotations

from typing import Any

import click

from apps.cli.options import overrides, privacy_option


@click.command()
@click.option("--engine", help="Which engine answers.", metavar="NAME")
@click.option("--model", help="Model for the engine: an artifact folder or a name.", metavar="DIR")
@click.option("--microphone", metavar="NAME", help="Input device, by name.")
@click.option("--speaker", metavar="NAME", help="Output device, by name.")
@privacy_option
def serve(**flags: Any) -> None:
    """Hold sound and models, and do what `edge ctl` and the tray say; Ctrl-C ends it."""
    from apps.daemon.start import run_daemon

    run_daemon(overrides(flags))
