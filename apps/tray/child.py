"""Other `edge` commands as child processes: their JSON, without stopping the window."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QObject, QProcess

Then = Callable[[dict[str, Any]], None]


def edge_command(*arguments: str) -> list[str]:
    """The command line of another `edge`, in a bundle too."""
    if getattr(sys, "frozen", False):
        return [sys.executable, *arguments]
    return [sys.executable, "-m", "apps.cli", *arguments]


def run_json(parent: QObject, arguments: tuple[str, ...], then: Then) -> QProcess:
    """Run `edge ARGUMENTS --json`; then gets its object, or {"error": ...}."""
    process = QProcess(parent)
    program, *words = edge_command(*arguments, "--json")

    def finished() -> None:
        text = bytes(process.readAllStandardOutput().data()).decode(errors="replace")
        try:
            found = json.loads(text)
        except ValueError:
            said = bytes(process.readAllStandardError().data()).decode(errors="replace").strip()
            found = {"error": said.splitlines()[-1] if said else "it gave no answer"}
        then(found if isinstance(found, dict) else {"items": found})

    process.finished.connect(finished)
    process.start(program, words)
    return process
