"""The tray app's menu and windows as pictures, for tray_pictures.py, which has a daemon running.

    python -m scripts.tray_windows FOLDER

What they show is asked of the real commands; the kept conversation is made up, in a folder of its
own. The level meter hears what the daemon's stand-in says.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QPoint
from PySide6.QtWidgets import QApplication, QWidget

from apps.tray.app import Tray
from edge.history import FILE_NAME, History
from edge.paths import data_dir

_LONGEST_S = 120.0
_SAID = (
    ("What is the capital of France?", "The capital of France is Paris."),
    ("How many legs has a spider?", "A spider has eight"),
    ("What do bees make?", "Bees make honey."),
)


def keep(folder: Path) -> None:
    """Move the data folder to one with the same models and a short history."""
    models = data_dir() / "models"
    folder.mkdir()
    os.environ["HOME"] = str(folder)
    os.environ["EDGE_HISTORY_ENABLED"] = "true"
    if models.exists():
        (folder / "models").symlink_to(models)
    os.environ["EDGE_DATA_DIR"] = str(folder)
    history = History(folder / "history" / FILE_NAME, enabled=True)
    for user, reply in _SAID:
        history.append(user=user, reply=reply, engine="cascade")


def main(folder: Path) -> None:
    """Open one after the other and take its picture."""
    keep(folder / "data")
    app = QApplication(sys.argv[:1])
    tray = Tray(app, with_tray=False, theme="light")

    def until(so: Callable[[], bool]) -> None:
        end_s = time.monotonic() + _LONGEST_S
        while not so() and time.monotonic() < end_s:
            app.processEvents()
            time.sleep(0.01)
        app.processEvents()

    def take(widget: QWidget, name: str) -> None:
        widget.show()
        until(widget.isVisible)
        widget.grab().save(str(folder / f"{name}.png"))
        widget.hide()

    until(lambda: tray.link.is_connected and tray.state == "idle")
    tray.menu.popup(QPoint(10, 10))
    until(lambda: tray.menu.isVisible() and not tray.inputs.isEmpty())
    take(tray.menu, "menu")
    tray.history.refresh()
    take(tray.history, "history")
    for window, name in ((tray.privacy, "privacy"), (tray.doctor, "doctor")):
        window.show()
        window.check()
        until(lambda window=window: window.table.rowCount() > 0)
        if window is tray.doctor:
            window.table.hideRow(0)  # which Python: a folder of this machine
        take(window, name)
    tray.guide.begin()
    until(lambda: tray.guide.list.count() > 0 and "measuring" not in tray.guide.advice.text())
    take(tray.guide, "models")
    tray.guide.next()
    tray.guide.take({"event": "levels", "microphone_db": -24.0})
    take(tray.guide, "microphone")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
