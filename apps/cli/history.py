"""`edge history`: what was kept of conversations: read it, take it along, or remove it."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apps.cli.options import json_option

if TYPE_CHECKING:
    from edge.history import History, Turn


# A conversation that is just being loaded is waited for.
_PURGE_TIMEOUT_S = 60.0


@click.group()
def history() -> None:
    """Read, search, export or purge what was kept: nothing, unless history.enabled is set."""


@history.command("list")
@click.option("--last", type=click.IntRange(min=1), metavar="N", help="Only the last N turns.")
@json_option
def list_turns(last: int | None, as_json: bool) -> None:
    """Show the turns that were kept, oldest first."""
    from edge.history import to_text

    kept = _open()
    turns = list(deque(kept.turns(), maxlen=last))
    if as_json:
        facts = {"enabled": kept.enabled, "path": str(kept.path)}
        click.echo(json.dumps({**facts, "turns": [asdict(turn) for turn in turns]}))
        return
    if turns:
        click.echo(to_text(iter(turns)))
    else:
        click.echo(f"nothing is kept in {kept.path}")
    if not kept.enabled:
        click.echo(
            "history is off; turn it on with: edge config set history.enabled true", err=True
        )


@history.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "json"]),
    help="Form of the text.  [default: text, with --json: json]",
)
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write it to this file."
)
@json_option
def export(form: str | None, output: Path | None, as_json: bool) -> None:
    """Write all kept turns to standard output or to a file."""
    from edge.atomic import write_text
    from edge.errors import UsageError

    form = form or ("json" if as_json else "text")
    if as_json and output is None and form != "json":
        raise UsageError(f"--json writes JSON; with --format {form} it needs --output FILE")
    turns = list(_open().turns())
    text = _format(form, iter(turns))
    if output is None:
        click.echo(text)
        return
    write_text(output, text + "\n")
    if as_json:
        click.echo(json.dumps({"path": str(output), "format": form, "turns": len(turns)}))
    else:
        click.echo(f"{len(turns)} turns written to {output}")


@history.command()
@click.argument("words", nargs=-1, required=True)
@json_option
def search(words: tuple[str, ...], as_json: bool) -> None:
    """Show the kept turns in which all WORDS occur, on either side or in the time."""
    from edge.history import matching, to_text

    kept = _open()
    turns = list(matching(kept.turns(), " ".join(words)))
    if as_json:
        facts = {"enabled": kept.enabled, "path": str(kept.path)}
        click.echo(json.dumps({**facts, "turns": [asdict(turn) for turn in turns]}))
    else:
        click.echo(to_text(iter(turns)) if turns else f"no such turn in {kept.path}")


@history.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def purge(yes: bool, as_json: bool) -> None:
    """Remove everything that was kept: turns, and what models cached of your prompts.

    A running daemon forgets its conversation and begins another.
    """
    from edge.history import purge_prompts
    from edge.paths import prompt_cache_dir

    kept = _open()
    if not yes:
        click.confirm(f"Remove every turn kept in {kept.path}?", abort=True, err=True)
    daemon = _purge_daemon()
    n_turns = kept.purge() + daemon.get("turns", 0)
    n_prompts = purge_prompts(prompt_cache_dir()) + daemon.get("prompts", 0)
    if as_json:
        facts = {"removed_turns": n_turns, "removed_prompts": n_prompts, "daemon": bool(daemon)}
        click.echo(json.dumps({"path": str(kept.path), **facts}))
    else:
        forgot = "; the daemon has forgotten its conversation" if daemon else ""
        click.echo(f"{n_turns} turns and {n_prompts} cached prompts removed{forgot}")


def _purge_daemon() -> dict[str, Any]:
    """Have a running daemon purge, and wait until it has; what it removed, {} without a daemon.

    Raises EdgeError where it could not.
    """
    from apps.daemon.client import Client, DaemonGoneError
    from edge.errors import EdgeError

    try:
        client = Client(timeout_s=_PURGE_TIMEOUT_S)
    except DaemonGoneError:
        return {}
    with client:
        client.ask("watch")
        client.send("purge")
        for line in client.lines():
            if line.get("event") == "purged":
                if line["error"]:
                    raise EdgeError(str(line["error"]))
                return line
            if line.get("ok") is False:
                raise EdgeError(str(line["error"]))
    raise EdgeError("the daemon did not say that it has purged; run it again: edge history purge")


def _open() -> History:
    from edge.config import load_config
    from edge.history import History

    return History.open(load_config().config)


def _format(form: str, turns: Iterator[Turn]) -> str:
    from edge.history import to_json, to_markdown, to_text

    return {"text": to_text, "markdown": to_markdown, "json": to_json}[form](turns)
