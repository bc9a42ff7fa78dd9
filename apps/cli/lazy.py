"""Command groups that import a command's module only when that command is run."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click


@dataclass(frozen=True, slots=True)
class Lazy:
    """Where a command lives ("module:attribute") and its line in the help."""

    target: str
    help: str


class LazyGroup(click.Group):
    """A group over a table of commands; help is written from the table and imports none of them."""

    def __init__(self, *args: Any, table: Mapping[str, Lazy], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the table's order, which is the order of a first evening with the program."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Import one command. Raises click.UsageError for a name that is not in the table."""
        entry = self._table.get(cmd_name)
        if entry is None:
            near = difflib.get_close_matches(cmd_name, self._table, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            ctx.fail(f"there is no command {cmd_name}{hint}")
        module, attribute = entry.target.split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self._table.items()])
