"""The first-run guide: which models fit, getting them, and whether the microphone hears."""

from __future__ import annotations

from typing import Any

from PySide6.QtWidgets import (
    QLabel,
    QListWidget,
    QListWidgetItem,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWizard,
    QWizardPage,
)

from apps.tray.child import run_json
from apps.tray.link import DaemonLink

_FLOOR_DB = -60
_HEARD_DB = -40.0


class GuideWindow(QWizard):
    """Three pages: models, fetch, microphone."""

    def __init__(self, link: DaemonLink) -> None:
        super().__init__()
        self._link = link
        self.setWindowTitle("edgevoice – first steps")
        self.resize(600, 440)
        self.setOption(QWizard.WizardOption.NoBackButtonOnStartPage)
        self._models()
        self._microphone()
        link.happened.connect(self.take)
        link.refused.connect(self.progress.setFormat)

    def _models(self) -> None:
        page = QWizardPage(title="Models")
        self.advice = QLabel("measuring what this machine can carry …")
        self.advice.setWordWrap(True)
        self.list = QListWidget()
        self.fetch = QPushButton("Fetch the chosen model")
        self.fetch.clicked.connect(self._fetch)
        self.progress = QProgressBar(minimum=0, maximum=1)
        self.progress.setFormat("")
        layout = QVBoxLayout(page)
        for each in (self.advice, self.list, self.fetch, self.progress):
            layout.addWidget(each)
        self.addPage(page)

    def _microphone(self) -> None:
        page = QWizardPage(title="Microphone")
        page.setSubTitle("Say something. The bar follows your voice.")
        self.meter = QProgressBar(minimum=_FLOOR_DB, maximum=0, textVisible=False)
        self.meter.setValue(_FLOOR_DB)
        self.heard = QLabel("nothing heard yet")
        layout = QVBoxLayout(page)
        layout.addWidget(self.meter)
        layout.addWidget(self.heard)
        self.addPage(page)

    def begin(self) -> None:
        """Ask the commands; show the window."""
        run_json(self, ("plan", "moshi-7b"), self.show_plan)
        run_json(self, ("models", "list"), self.show_models)
        self._link.want_levels(True)
        self.show()

    def show_plan(self, found: dict[str, Any]) -> None:
        """found: the object of `edge plan --json`."""
        reason = found.get("reason") or found.get("error") or "not known"
        engine = found.get("engine", "cascade")
        self.advice.setText(f"For this machine: the {engine} engine. A 7B duplex model: {reason}.")

    def show_models(self, found: dict[str, Any]) -> None:
        """found: the object of `edge models list --json`."""
        self.list.clear()
        for model in found.get("models", []):
            state = model.get("state") or model.get("status") or ""
            item = QListWidgetItem(f"{model['name']}   {model.get('role', '')}   {state}")
            item.setData(256, model["name"])
            self.list.addItem(item)

    def take(self, event: dict[str, Any]) -> None:
        """Progress of a fetch, loudness."""
        if event["event"] == "levels":
            level = event["microphone_db"]
            self.meter.setValue(max(_FLOOR_DB, round(level)))
            if level > _HEARD_DB:
                self.heard.setText("I hear you.")
        elif event["event"] == "fetch":
            done = event["state"] != "begun"
            self.progress.setRange(0, 1 if done else 0)
            self.progress.setValue(int(done))
            said = {"begun": "fetching", "done": "is here", "failed": "failed"}[event["state"]]
            self.progress.setFormat(f"{event['model']} {said} {event.get('error', '')}".strip())

    def _fetch(self) -> None:
        item = self.list.currentItem()
        if item is not None:
            self._link.ask("fetch", model=item.data(256))
