"""`edge ctl`: tell the daemon what to do, from a shell, a key binding or a button."""

from __future__ import annotations

import json
from typing import Any

import click

from apps.cli.keys import status_lines
from apps.cli.options import json_option


@click.group()
def ctl() -> None:
    """Tell the running daemon what to do; bind these to keys of your desktop."""


@ctl.command()
@json_option
def status(as_json: bool) -> None:
    """What it does, how quickly it answers, what is enforced."""
    found = _ask("status")
    if as_json:
        click.echo(json.dumps(found))
        return
    for line in status_lines(found):
        click.echo(line)


@ctl.command()
@click.argument("on", type=click.Choice(["on", "off"]), default="on")
@json_option
def mute(on: str, as_json: bool) -> None:
    """Close the microphone; after two seconds the device itself is released."""
    _show(_ask("mute", on=on == "on"), as_json)


@ctl.command()
@json_option
def toggle(as_json: bool) -> None:
    """Mute, or listen again: for one key."""
    _show(_ask("toggle"), as_json)


@ctl.command()
@click.argument("key", type=click.Choice(["down", "up", "toggle"]), default="toggle")
@json_option
def talk(key: str, as_json: bool) -> None:
    """The talk key: held down it opens the microphone, muted or not."""
    _show(_ask("talk", **({} if key == "toggle" else {"down": key == "down"})), as_json)


@ctl.command()
@json_option
def stop(as_json: bool) -> None:
    """Be silent now."""
    _show(_ask("stop"), as_json)


@ctl.command()
@click.argument("name")
@json_option
def profile(name: str, as_json: bool) -> None:
    """Change to a profile; the conversation begins anew."""
    _show(_ask("profile", name=name), as_json)


@ctl.command(name="set")
@click.argument("key")
@click.argument("value")
@json_option
def set_value(key: str, value: str, as_json: bool) -> None:
    """Change a setting until the daemon ends; `edge config set` does so for good."""
    _show(_ask("set", key=key, value=value), as_json)


@ctl.command()
@json_option
def reload(as_json: bool) -> None:
    """Read settings and models anew."""
    _show(_ask("reload"), as_json)


@ctl.command()
@click.argument("model")
@json_option
def fetch(model: str, as_json: bool) -> None:
    """Have a model fetched by the daemon's separate, unsealed process, if that is allowed."""
    _show(_ask("fetch", model=model), as_json)


@ctl.command(name="history")
@click.argument("words", nargs=-1)
@click.option("--last", type=click.IntRange(1, 100), default=20, show_default=True, metavar="N")
@json_option
def show_history(words: tuple[str, ...], last: int, as_json: bool) -> None:
    """The last turns that the daemon has kept, of those with all WORDS."""
    from edge.history import Turn, to_text

    found = _ask("history", words=" ".join(words), last=last)
    if as_json:
        click.echo(json.dumps(found))
    elif found["turns"]:
        click.echo(to_text(Turn(**turn) for turn in found["turns"]))
    else:
        click.echo("nothing is kept" if found["enabled"] else "nothing is kept: history is off")


@ctl.command(name="quit")
@json_option
def quit_daemon(as_json: bool) -> None:
    """End the daemon."""
    _show(_ask("quit"), as_json)


@ctl.command()
@click.option("--levels", is_flag=True, help="Loudness too, six times a second.")
def watch(levels: bool) -> None:
    """Print what happens as JSON lines, what is said too, until Ctrl-C."""
    from apps.daemon.client import Client

    with Client() as client:
        client.send("watch", levels=levels)
        client.socket.settimeout(None)
        for line in client.lines():
            click.echo(json.dumps(line))


def _ask(do: str, **facts: object) -> dict[str, Any]:
    from apps.daemon.client import Client

    with Client() as client:
        return client.ask(do, **facts)


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found))
    else:
        click.echo(str(found["state"]))
