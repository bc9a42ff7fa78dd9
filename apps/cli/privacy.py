"""`edge privacy`: show what is enforced, and hold any command to it."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from apps.cli.options import json_option, overrides, privacy_option


@click.group()
def privacy() -> None:
    """Show and enforce that nothing leaves this machine."""


@privacy.command()
@click.option("--pid", "pids", type=int, multiple=True, help="Look at this process too.")
@privacy_option
@json_option
def audit(pids: tuple[int, ...], as_json: bool, **flags: Any) -> int:
    """Try the seal with planted leaks, then look at the daemon and at the disk.

    Exit code 1 if something is not as it should be.
    """
    from apps.cli.doctor import line
    from apps.daemon.lock import running_pid
    from apps.privacy.audit import audit as run_audit
    from edge.config import load_config

    daemon = running_pid()
    found = run_audit(load_config(overrides(flags)), (*pids, *([daemon] if daemon else [])))
    if as_json:
        click.echo(json.dumps(found.as_dict()))
    else:
        for check in found.checks:
            click.echo(line(check))
    return 0 if found.ok else 1


@privacy.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@privacy_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD...")
def run(command: tuple[str, ...], **flags: Any) -> int:
    """Run any program sealed; its exit code is the command's own."""
    from apps.privacy.seal import seal
    from edge.config import load_config
    from edge.errors import UsageError

    config = load_config(overrides(flags)).config
    seal(config.privacy.level)
    try:
        os.execvp(command[0], command)  # noqa: S606  the user asked for exactly this
    except OSError as error:
        raise UsageError(f"{command[0]} cannot be run: {error.strerror}") from error


@privacy.command(hidden=True)
@click.argument("level")
def probe(level: str) -> None:
    """What `audit` starts as its child in a bundle."""
    import sys

    from apps.privacy import probe as planted

    sys.argv[1:] = [level]
    planted.main()
