"""The history window: search what was kept, export it, or remove it for good."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from edge.atomic import write_text
from edge.config import load_config
from edge.errors import EdgeError
from edge.history import History, matching, purge_prompts, to_json, to_markdown, to_text
from edge.paths import prompt_cache_dir


class HistoryWindow(QWidget):
    """Kept turns, newest last. forget: has a running daemon purge, too."""

    def __init__(self, forget: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self._forget = forget
        self.setWindowTitle("edgevoice – history")
        self.resize(560, 480)
        self.search = QLineEdit(placeholderText="search")
        self.search.textChanged.connect(self.refresh)
        self.text, self.count = QTextBrowser(), QLabel()
        export, purge = QPushButton("Export …"), QPushButton("Remove everything …")
        export.clicked.connect(self._choose_export)
        purge.clicked.connect(self._ask_purge)
        below = QHBoxLayout()
        below.addWidget(self.count, 1)
        below.addWidget(export)
        below.addWidget(purge)
        whole = QVBoxLayout(self)
        whole.addWidget(self.search)
        whole.addWidget(self.text, 1)
        whole.addLayout(below)

    def refresh(self) -> None:
        """Read the file anew."""
        history = _open()
        try:
            turns = list(history.turns())
        except EdgeError as error:
            self.count.setText(str(error))
            return
        shown = list(matching(turns, self.search.text()))
        self.text.setPlainText(to_text(iter(shown)))
        state = "" if history.enabled else "; history is off, nothing is being kept"
        self.count.setText(f"{len(shown)} of {len(turns)} turns{state}")

    def export(self, path: Path) -> None:
        """Write every kept turn; the name says in which form. Raises EdgeError."""
        forms = {".json": to_json, ".md": to_markdown}
        turns = _open().turns()
        write_text(path, forms.get(path.suffix, to_text)(turns) + "\n")

    def purge(self) -> int:
        """Remove every kept turn and cached prompt; how many turns there were. Raises EdgeError.

        The daemon ends its conversation, which remembers too, and what that kept meanwhile.
        """
        n_turns = _open().purge()
        purge_prompts(prompt_cache_dir())
        self._forget()
        self.refresh()
        return n_turns

    def _choose_export(self) -> None:
        name, _ = QFileDialog.getSaveFileName(
            self, "Export", "conversations.md", "Markdown (*.md);;JSON (*.json);;Text (*.txt)"
        )
        if name:
            self._or_say(lambda: self.export(Path(name)))

    def _ask_purge(self) -> None:
        asked = QMessageBox.question(
            self, "Remove", "Remove every kept turn? There is no way back."
        )
        if asked == QMessageBox.StandardButton.Yes:
            self._or_say(self.purge)

    def _or_say(self, work: object) -> None:
        assert callable(work)
        try:
            work()
        except EdgeError as error:
            QMessageBox.warning(self, "edgevoice", str(error))


def _open() -> History:
    return History.open(load_config().config)
