"""Tables on standard output, every cell whole: rather wider than the terminal than cut short."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

_WIDEST = 4096  # characters


def show(title: str, table: Table) -> None:
    """Print a line and a table below it; neither is folded, whatever the terminal's width."""
    from rich.console import Console
    from rich.measure import Measurement

    console = Console()
    wide = Measurement.get(console, console.options.update(max_width=_WIDEST), table).maximum
    console.width = max(console.width, wide)
    click.echo(title)
    console.print(table)
