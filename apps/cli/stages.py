"""How far long work is, stage by stage: bars on a terminal, one line per stage elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

OnProgress = Callable[[str, int, int], None]


@contextmanager
def stages() -> Iterator[OnProgress]:
    """Give a function that is told (stage, done, total); everything goes to standard error."""
    if not sys.stderr.isatty():
        yield _line_per_stage()
        return
    from rich import progress as bars
    from rich.console import Console

    with bars.Progress(
        bars.TextColumn("{task.description}"),
        bars.BarColumn(bar_width=24),
        bars.MofNCompleteColumn(),
        bars.TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
    ) as progress:
        tasks: dict[str, bars.TaskID] = {}

        def at(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield at


def _line_per_stage() -> OnProgress:
    """Say each stage once, when it begins."""
    said: set[str] = set()

    def at(stage: str, _done: int, _total: int) -> None:
        if stage not in said:
            said.add(stage)
            click.echo(f"{stage} ...", err=True)

    return at
