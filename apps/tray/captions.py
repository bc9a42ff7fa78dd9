"""The window with live captions and the latency panel; the app itself where there is no tray."""

from __future__ import annotations

import html
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from apps.tray.icons import pixmap
from apps.tray.link import DaemonLink

_MOST_BLOCKS = 400
_ROWS = ("answer", "last answer", "step", "frames", "echo", "memory", "privacy")
_FLOOR_DB = -60


class CaptionWindow(QWidget):
    """What is said, and how quickly."""

    def __init__(self, link: DaemonLink, theme: str) -> None:
        super().__init__()
        self._link, self._theme = link, theme
        self.setWindowTitle("edgevoice")
        self.resize(560, 480)
        self.picture, self.state = QLabel(), QLabel("no daemon")
        self.state.setStyleSheet("font-weight: 600; font-size: 15px")
        self.mute = QPushButton("Mute")
        self.mute.clicked.connect(lambda: link.ask("toggle"))
        self.stop = QPushButton("Be silent")
        self.stop.clicked.connect(lambda: link.ask("stop"))
        self.key = QPushButton("Hold to talk")
        self.key.pressed.connect(lambda: link.ask("talk", down=True))
        self.key.released.connect(lambda: link.ask("talk", down=False))
        top = QHBoxLayout()
        top.addWidget(self.picture)
        top.addWidget(self.state, 1)
        for button in (self.key, self.stop, self.mute):
            top.addWidget(button)
        self.text = QTextBrowser()
        self.text.document().setMaximumBlockCount(_MOST_BLOCKS)
        self.meter = QProgressBar(minimum=_FLOOR_DB, maximum=0, textVisible=False)
        self.meter.setFixedHeight(8)
        self.meter.setValue(_FLOOR_DB)
        form = QFormLayout()
        self.rows = {name: QLabel("–") for name in _ROWS}
        for name, label in self.rows.items():
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            label.setWordWrap(True)
            form.addRow(name, label)
        whole = QVBoxLayout(self)
        whole.addLayout(top)
        whole.addWidget(self.meter)
        whole.addWidget(self.text, 1)
        whole.addLayout(form)
        self.show_state("offline", muted=False)

    def show_state(self, state: str, *, muted: bool, error: str = "") -> None:
        """The line at the top."""
        words = {"offline": "no daemon: edge serve starts it"}
        self.state.setText(error or words.get(state, state))
        self.state.setWordWrap(bool(error))
        self.picture.setPixmap(pixmap(state, self._theme, 32))
        self.mute.setText("Listen" if muted else "Mute")

    def show_status(self, found: dict[str, Any]) -> None:
        """The panel."""
        panel, privacy = found["panel"], found["privacy"]
        answer, frames, step = panel["answer_ms"], panel["frames"], panel["frames"]["step_ms"]
        last = panel.get("last_answer_ms") or {}
        parts = ", ".join(f"{name} {ms:.0f}" for name, ms in last.items() if name != "total")
        echo = (panel.get("echo") or {}).get("erle_db")
        self.rows["answer"].setText(
            f"{panel['answers']} answers, p50 {answer['p50']:.0f} ms, p95 {answer['p95']:.0f} ms"
        )
        self.rows["last answer"].setText(f"{last['total']:.0f} ms: {parts}" if last else "–")
        self.rows["step"].setText(f"p50 {step['p50']:.1f} ms, p99 {step['p99']:.1f} ms")
        queues = panel["queues"]
        self.rows["frames"].setText(
            f"{frames['count']}, {frames['missed']} missed, {queues['dropped_in']} dropped"
        )
        self.rows["echo"].setText("–" if echo is None else f"{echo:.0f} dB down")
        self.rows["memory"].setText(f"{panel['rss_mb']:.0f} MiB")
        by = ", ".join(privacy["mechanisms"]) or "nothing"
        self.rows["privacy"].setText(f"{privacy['level']}, enforced by {by}")

    def take(self, event: dict[str, Any]) -> None:
        """A caption, a level."""
        if event["event"] == "levels":
            self.meter.setValue(max(_FLOOR_DB, round(event["microphone_db"])))
        elif event["event"] == "user" and event.get("text"):
            self._say("you", "#1e8e3e", event["text"])
        elif event["event"] == "reply":
            cut = " […]" if event.get("interrupted") else ""
            self._say("edge", "#1a73e8", f"{event.get('text', '')}{cut}")

    def _say(self, who: str, colour: str, text: str) -> None:
        self.text.append(f'<b style="color:{colour}">{who}</b>&nbsp; {html.escape(text)}')

    def showEvent(self, event: Any) -> None:  # noqa: N802  Qt's name
        self._link.want_levels(True)
        super().showEvent(event)

    def hideEvent(self, event: Any) -> None:  # noqa: N802
        self._link.want_levels(False)
        super().hideEvent(event)
