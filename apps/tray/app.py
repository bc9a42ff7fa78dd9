"""The tray app: a thin client. Whatever happens to it, the daemon talks on."""

from __future__ import annotations

import sys
import time
from typing import Any

from PySide6.QtCore import QTimer
from PySide6.QtGui import QAction, QActionGroup, QIcon, QPalette
from PySide6.QtWidgets import QApplication, QInputDialog, QMenu, QSystemTrayIcon

from apps.daemon.profiles import profile_names
from apps.signals import on_end
from apps.tray.captions import CaptionWindow
from apps.tray.checks import CheckWindow
from apps.tray.child import run_json
from apps.tray.guide import GuideWindow
from apps.tray.history import HistoryWindow
from apps.tray.icons import icon
from apps.tray.link import DaemonLink

_STATUS_MS = 1_000


class Tray:
    """The icon, its menu and the windows; owns the link to the daemon."""

    def __init__(self, app: QApplication, *, with_tray: bool = True, theme: str = "") -> None:
        self.app = app
        dark = app.palette().color(QPalette.ColorRole.Window).lightness() < 128
        self.theme = theme or ("dark" if dark else "light")
        self.state, self.muted = "offline", False
        self.link = DaemonLink(app)
        self.captions = CaptionWindow(self.link, self.theme)
        self.history = HistoryWindow(lambda: self.link.ask("purge"))
        self.privacy = CheckWindow("edgevoice – privacy", ("privacy", "audit"))
        self.doctor = CheckWindow("edgevoice – doctor", ("doctor", "--fast"))
        self.guide = GuideWindow(self.link)
        self.icons: dict[str, QIcon] = {}
        self.menu = QMenu()
        self._fill_menu()
        self.tray: QSystemTrayIcon | None = None
        if with_tray and QSystemTrayIcon.isSystemTrayAvailable():
            self.tray = QSystemTrayIcon(self._icon("offline"))
            self.tray.setContextMenu(self.menu)
            self.tray.activated.connect(self._clicked)
            self.tray.show()
        app.setQuitOnLastWindowClosed(self.tray is None)
        self.link.status.connect(self.show_status)
        self.link.happened.connect(self.take)
        self.link.connected.connect(self._connected)
        self.poll = QTimer(app, interval=_STATUS_MS)
        self.poll.timeout.connect(lambda: self.link.ask("status"))
        self.captions_were_shown = self.tray is None
        if self.tray is None:
            self.captions.show()
        self.link.connect_now()

    def show_status(self, found: dict[str, Any]) -> None:
        """Everything, once a second while the window is open."""
        self._show(found["state"], muted=found["muted"], error=found["error"])
        self.captions.show_status(found)
        self.poll.setInterval(_STATUS_MS if self.captions.isVisible() else 10 * _STATUS_MS)

    def take(self, event: dict[str, Any]) -> None:
        """One event."""
        if event["event"] == "state":
            self._show(event["state"], muted=event["muted"], error=event["error"])
        self.captions.take(event)

    def _connected(self, connected: bool) -> None:
        if connected:
            self.poll.start()
        else:
            self.poll.stop()
            self._show("offline", muted=False)

    def _show(self, state: str, *, muted: bool, error: str = "") -> None:
        self.state, self.muted = state, muted
        self.captions.show_state(state, muted=muted, error=error)
        self.mute_action.setChecked(muted)
        for action in (self.mute_action, self.talk_action, self.stop_action):
            action.setEnabled(state != "offline")
        if self.tray is not None:
            self.tray.setIcon(self._icon(state))
            self.tray.setToolTip(f"edgevoice: {error or state}")

    def _icon(self, state: str) -> QIcon:
        if state not in self.icons:
            self.icons[state] = icon(state, self.theme)
        return self.icons[state]

    def _clicked(self, reason: QSystemTrayIcon.ActivationReason) -> None:
        if reason == QSystemTrayIcon.ActivationReason.Trigger:
            self.captions.setVisible(not self.captions.isVisible())
            self.link.ask("status")

    def _fill_menu(self) -> None:
        menu, ask = self.menu, self.link.ask
        self.mute_action = menu.addAction("Mute")
        self.mute_action.setCheckable(True)
        self.mute_action.triggered.connect(lambda on: ask("mute", on=on))
        self.talk_action = menu.addAction("Talk (again to end)")
        self.talk_action.triggered.connect(lambda: ask("talk"))
        self.stop_action = menu.addAction("Be silent")
        self.stop_action.triggered.connect(lambda: ask("stop"))
        menu.addSeparator()
        self.inputs, self.outputs = menu.addMenu("Microphone"), menu.addMenu("Speaker")
        self.profiles = menu.addMenu("Profile")
        menu.aboutToShow.connect(self._refresh_menus)
        menu.addAction("Voice …").triggered.connect(lambda: self._ask_text("Voice", "talk.voice"))
        menu.addAction("Prompt …").triggered.connect(
            lambda: self._ask_text("Prompt", "talk.prompt")
        )
        menu.addSeparator()
        menu.addAction("Captions and latency").triggered.connect(self.captions.show)
        menu.addAction("History").triggered.connect(self._open_history)
        for title, window in (("Privacy", self.privacy), ("Doctor", self.doctor)):
            menu.addAction(title).triggered.connect(lambda _=False, w=window: self._open_check(w))
        menu.addAction("First steps").triggered.connect(self.guide.begin)
        menu.addSeparator()
        menu.addAction("Quit this icon").triggered.connect(self.app.quit)

    def _refresh_menus(self) -> None:
        self._choices(
            self.profiles, profile_names(), lambda name: self.link.ask("profile", name=name)
        )
        run_json(self.app, ("devices",), self.show_devices)

    def show_devices(self, found: dict[str, Any]) -> None:
        """found: the object of `edge devices --json`."""
        devices = found.get("devices", [])
        for menu, key, channels in (
            (self.inputs, "audio.input", "n_inputs"),
            (self.outputs, "audio.output", "n_outputs"),
        ):
            names = ["", *(d["name"] for d in devices if d.get(channels, 0) > 0)]
            self._choices(menu, names, lambda name, k=key: self.link.ask("set", key=k, value=name))

    @staticmethod
    def _choices(menu: QMenu, names: Any, chosen: Any) -> None:
        menu.clear()
        group = QActionGroup(menu)
        for name in names:
            action = QAction(name or "the system's default", group)
            action.triggered.connect(lambda _=False, n=name: chosen(n))
            menu.addAction(action)

    def _ask_text(self, title: str, key: str) -> None:
        text, wanted = QInputDialog.getText(None, title, f"{title}, until the daemon ends")
        if wanted:
            self.link.ask("set", key=key, value=text)

    def _open_history(self) -> None:
        self.history.refresh()
        self.history.show()

    @staticmethod
    def _open_check(window: CheckWindow) -> None:
        window.show()
        window.check()


def run_tray(
    *, with_tray: bool, began_s: float, measure_s: float = 0.0, theme: str = ""
) -> dict[str, float]:
    """Be the tray app. measure_s: end after that time and say what starting and idling cost."""
    app = QApplication(sys.argv[:1])
    app.setApplicationName("edgevoice")
    app.setDesktopFileName("edgevoice")
    tray = Tray(app, with_tray=with_tray, theme=theme)
    on_end(lambda *_: app.quit())
    wake = QTimer(interval=500)  # lets Python see signals
    wake.timeout.connect(lambda: None)
    wake.start()
    found: dict[str, float] = {}

    def started() -> None:
        found["start_s"] = round(time.monotonic() - began_s, 3)
        found["tray"] = float(tray.tray is not None)
        found["cpu_s"] = time.process_time()

    QTimer.singleShot(0, started)
    if measure_s:
        QTimer.singleShot(int(measure_s * 1000), app.quit)
    app.exec()
    spent_s = time.process_time() - found.pop("cpu_s", 0.0)
    found["idle_cpu_percent"] = round(100 * spent_s / measure_s, 2) if measure_s else 0.0
    return found
