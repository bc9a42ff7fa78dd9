"""The tray app on Qt's offscreen platform, against a real control server."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip(
    "PySide6.QtWidgets", reason="the tray extra is not installed", exc_type=ImportError
)

from PySide6.QtWidgets import QApplication

from apps.daemon.client import over_pipe
from apps.daemon.pipe import PipeServer, pipe_address, secret
from apps.daemon.protocol import Request
from apps.daemon.server import ControlServer
from apps.daemon.start import bind
from apps.tray.app import Tray
from apps.tray.history import HistoryWindow
from apps.tray.icons import STATES, pixmap
from apps.tray.link import DaemonLink
from edge.config import load_config
from edge.history import History
from scripts.tray_pictures import status


@pytest.fixture(scope="module")
def app() -> Iterator[QApplication]:
    made = QApplication.instance() or QApplication([])
    assert isinstance(made, QApplication)
    yield made
    made.processEvents()


def wait(app: QApplication, until: Callable[[], bool]) -> None:
    """Let Qt work until something is so."""
    end_s = time.monotonic() + 30
    while not until():
        app.processEvents()
        assert time.monotonic() < end_s, "it never happened"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_state_looks_different_even_without_colour(app: QApplication, theme: str) -> None:
    seen: dict[bytes, str] = {}
    for state in STATES:
        image = pixmap(state, theme, 22).toImage()
        alpha = bytes(image.pixelColor(x, y).alpha() > 96 for x in range(22) for y in range(22))
        assert sum(alpha) > 40
        assert alpha not in seen, f"{state} looks like {seen.get(alpha)}"
        seen[alpha] = state


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a daemon will be found; a short path, as a socket needs."""
    made = tmp_path_factory.mktemp("t") / "s"
    monkeypatch.setenv("EDGE_CONTROL_SOCKET", str(made))
    return made


@dataclass
class Idle:
    """A daemon's answers, and what it was asked."""

    asked: list[str] = field(default_factory=list)

    def __call__(self, request: Request) -> dict[str, Any]:
        self.asked.append(request.do)
        return status("idle")


def test_it_shows_what_the_daemon_says_and_asks_what_is_clicked(
    app: QApplication, path: Path
) -> None:
    daemon = Idle()
    tray = Tray(app, with_tray=False)  # as on a desktop that has none: a normal window
    assert tray.captions.isVisible()
    assert tray.state == "offline"
    assert not tray.mute_action.isEnabled()
    server = ControlServer(bind(path), daemon)
    server.start()
    wait(app, lambda: tray.link.is_connected and tray.state == "idle")
    assert "496 ms" in tray.captions.rows["answer"].text()
    assert "seccomp" in tray.captions.rows["privacy"].text()
    server.tell("state", {"state": "muted", "muted": True, "error": ""})
    wait(app, lambda: tray.state == "muted")
    assert tray.mute_action.isChecked()
    server.tell("user", {"text": "<b>hello</b>"})
    server.tell("reply", {"text": "good day", "interrupted": True})
    wait(app, lambda: "good day […]" in tray.captions.text.toPlainText())
    assert "<b>hello</b>" in tray.captions.text.toPlainText()
    daemon.asked.clear()
    tray.mute_action.trigger()
    tray.stop_action.trigger()
    tray.captions.key.pressed.emit()
    wait(app, lambda: {"mute", "stop", "talk"} <= set(daemon.asked))
    server.close()
    wait(app, lambda: tray.state == "offline")
    tray.captions.hide()


def test_history_is_searched_exported_and_really_removed(
    app: QApplication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("EDGE_HISTORY_ENABLED", "true")
    kept = History.open(load_config().config)
    kept.append(user="the capital of France", reply="Paris", engine="cascade")
    kept.append(user="legs of a spider", reply="eight", engine="cascade")
    monkeypatch.setenv("EDGE_CACHE_DIR", str(tmp_path / "cache"))
    asked: list[str] = []
    window = HistoryWindow(lambda: asked.append("purge"))
    window.refresh()
    assert "2 of 2" in window.count.text()
    window.search.setText("paris capital")
    assert "1 of 2" in window.count.text()
    assert "spider" not in window.text.toPlainText()
    window.export(tmp_path / "all.json")
    assert len(json.loads((tmp_path / "all.json").read_text())["turns"]) == 2
    assert window.purge() == 2
    assert asked == ["purge"]
    assert not kept.path.exists()
    assert "0 of 0" in window.count.text()


def test_over_a_named_pipe_it_hears_and_says_the_same(app: QApplication, path: Path) -> None:
    daemon = Idle()
    server = PipeServer(pipe_address(path), secret(path.parent), daemon)
    server.start()
    link = DaemonLink(app, connect=over_pipe)
    seen: list[dict[str, Any]] = []
    link.happened.connect(seen.append)
    link.status.connect(seen.append)
    link.connect_now()
    wait(app, lambda: any("panel" in each for each in seen))
    assert link.is_connected
    server.tell("caption", {"text": "hello"})
    wait(app, lambda: any(each.get("text") == "hello" for each in seen))
    assert [each for each in seen if each.get("event") == "caption"] == [
        {"event": "caption", "text": "hello"}
    ]
    link.ask("stop")
    wait(app, lambda: "stop" in daemon.asked)
    assert daemon.asked[-1] == "stop"
    server.close()
    wait(app, lambda: not link.is_connected)
