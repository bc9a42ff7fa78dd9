"""`edge history`: what was kept of conversations: read it, take it along, or remove it."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from apps.cli.options import json_option

if TYPE_CHECKING:
    from edge.history import History, Turn


@click.group()
def history() -> None:
    """List, export or purge what was kept; nothing is kept unless history.enabled is set."""


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
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def purge(yes: bool, as_json: bool) -> None:
    """Remove everything that was kept."""
    kept = _open()
    if not yes:
        click.confirm(f"Remove every turn kept in {kept.path}?", abort=True, err=True)
    n_turns = kept.purge()
    if as_json:
        click.echo(json.dumps({"path": str(kept.path), "removed_turns": n_turns}))
    else:
        click.echo(f"{n_turns} turns removed")


def _open() -> History:
    from edge.config import load_config
    from edge.history import History

    return History.open(load_config().config)


def _format(form: str, turns: Iterator[Turn]) -> str:
    from edge.history import to_json, to_markdown, to_text

    return {"text": to_text, "markdown": to_markdown, "json": to_json}[form](turns)
