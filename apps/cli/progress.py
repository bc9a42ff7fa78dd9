"""How far a fetch or an import is: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from apps.fetch import Stage


class LineReporter:
    """One line per model when it is done, and one when its download begins."""

    def __init__(self) -> None:
        self._downloading: set[str] = set()

    def at(self, name: str, stage: Stage, done_bytes: int, total_bytes: int | None) -> None:
        """Say once that a download began."""
        from edge.store import size_text

        if stage == "download" and name not in self._downloading:
            self._downloading.add(name)
            click.echo(f"{name}: fetching {size_text(total_bytes)}", err=True)

    def finished(self, name: str, outcome: str) -> None:
        """Say how it ended."""
        click.echo(f"{name}: {outcome}", err=True)


class BarReporter:
    """One bar per model: bytes, speed and the time that is left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    @classmethod
    @contextmanager
    def shown(cls) -> Iterator[BarReporter]:
        """Show the bars on standard error until the block ends."""
        from rich import progress as bars
        from rich.console import Console
        from rich.table import Column

        with bars.Progress(
            bars.TextColumn("{task.fields[model]}", table_column=Column(no_wrap=True)),
            bars.BarColumn(bar_width=16),
            bars.DownloadColumn(table_column=Column(no_wrap=True)),
            bars.TimeRemainingColumn(compact=True),
            bars.TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            console=Console(stderr=True),
        ) as progress:
            yield cls(progress)

    def at(self, name: str, stage: Stage, done_bytes: int, total_bytes: int | None) -> None:
        """Move the bar; unpacking is quick and does not move it back."""
        task = self._task(name, total_bytes)
        self._progress.update(task, description=stage)
        if stage == "download":
            self._progress.update(task, completed=done_bytes, total=total_bytes)

    def finished(self, name: str, outcome: str) -> None:
        """Fill the bar, or leave it where it was for what failed."""
        task = self._task(name, None)
        self._progress.update(task, description=outcome)
        if outcome != "failed":
            total = self._progress.tasks[task].total or 1
            self._progress.update(task, completed=total, total=total)

    def _task(self, name: str, total_bytes: int | None) -> TaskID:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task("", total=total_bytes, model=name)
        return self._tasks[name]
