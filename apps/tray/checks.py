"""Windows that show a command's checks: privacy status and doctor."""

from __future__ import annotations

from typing import Any

from PySide6.QtGui import QColor
from PySide6.QtWidgets import (
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from apps.tray.child import run_json

_COLOURS = {"ok": "#1e8e3e", "warn": "#e37400", "fail": "#d93025"}


class CheckWindow(QWidget):
    """The lines of `edge doctor` or of `edge privacy audit`."""

    def __init__(self, title: str, command: tuple[str, ...]) -> None:
        super().__init__()
        self._command = command
        self.setWindowTitle(title)
        self.resize(820, 420)
        self.summary = QLabel("…")
        self.table = QTableWidget(0, 4)
        self.table.setHorizontalHeaderLabels(["", "what", "found", "what to do"])
        self.table.verticalHeader().hide()
        self.table.setWordWrap(True)
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(2, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        self.again = QPushButton("Check again")
        self.again.clicked.connect(self.check)
        whole = QVBoxLayout(self)
        whole.addWidget(self.summary)
        whole.addWidget(self.table, 1)
        whole.addWidget(self.again)

    def check(self) -> None:
        """Run the command and show what it says."""
        self.again.setEnabled(False)
        self.summary.setText("checking …")
        run_json(self, self._command, self.show_report)

    def show_report(self, found: dict[str, Any]) -> None:
        """found: {"ok", "checks": [{"name", "status", "detail", "remedy"}]}."""
        self.again.setEnabled(True)
        checks = found.get("checks", [])
        self.summary.setText(
            found.get("error") or ("All is well." if found.get("ok") else "Something is wrong.")
        )
        self.table.setRowCount(len(checks))
        for row, check in enumerate(checks):
            words = (check["status"], check["name"], check["detail"], check["remedy"])
            for column, text in enumerate(words):
                item = QTableWidgetItem(text)
                if column == 0:
                    item.setForeground(QColor(_COLOURS.get(text, "#000000")))
                self.table.setItem(row, column, item)
        self.table.resizeRowsToContents()
