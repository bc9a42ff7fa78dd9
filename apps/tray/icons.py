"""Icons for every state, drawn here: readable at 16 pixels, on light panels and on dark ones.

A state differs from the others in shape, not only in colour.
"""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QIcon, QPainter, QPen, QPixmap

STATES = ("loading", "idle", "listening", "thinking", "speaking", "muted", "error", "offline")
_SIZES = (16, 22, 24, 32, 48, 64)
_INK = {"light": "#202124", "dark": "#f1f3f4"}
_ACCENT = {
    "loading": "#9aa0a6",
    "listening": "#1e8e3e",
    "thinking": "#e37400",
    "speaking": "#1a73e8",
    "muted": "#d93025",
    "error": "#d93025",
    "offline": "#9aa0a6",
}


def icon(state: str, theme: str) -> QIcon:
    """theme: "light" or "dark", what the panel is."""
    made = QIcon()
    for size in _SIZES:
        made.addPixmap(pixmap(state, theme, size))
    return made


def pixmap(state: str, theme: str, size: int) -> QPixmap:
    """One icon, size x size pixels, transparent behind."""
    image = QPixmap(size, size)
    image.fill(Qt.GlobalColor.transparent)
    painter = QPainter(image)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.scale(size / 32, size / 32)
    ink = QColor(_INK[theme])
    accent = QColor(_ACCENT.get(state, _INK[theme]))
    _microphone(painter, accent if state in ("loading", "offline") else ink, state)
    _mark(painter, state, accent)
    painter.end()
    return image


def _microphone(painter: QPainter, ink: QColor, state: str) -> None:
    painter.setPen(QPen(ink, 2.4, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
    filled = state in ("listening", "speaking", "thinking")
    painter.setBrush(ink if filled else Qt.BrushStyle.NoBrush)
    painter.drawRoundedRect(QRectF(11.5, 3, 9, 15), 4.5, 4.5)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawArc(QRectF(7.5, 8, 17, 15), 180 * 16, 180 * 16)
    painter.drawLine(QPointF(16, 23), QPointF(16, 28))
    painter.drawLine(QPointF(11, 28.5), QPointF(21, 28.5))


def _mark(painter: QPainter, state: str, accent: QColor) -> None:
    pen = QPen(accent, 3.0, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap)
    painter.setPen(pen)
    if state == "muted":
        painter.drawLine(QPointF(4, 4), QPointF(28, 28))
    elif state == "listening":
        painter.setBrush(accent)
        painter.drawEllipse(QPointF(26, 26), 3.6, 3.6)
    elif state == "thinking":
        painter.setBrush(accent)
        for x in (20.0, 25.0, 30.0):
            painter.drawEllipse(QPointF(x, 28), 0.9, 0.9)
    elif state == "speaking":
        painter.drawArc(QRectF(17, 7, 8, 12), -60 * 16, 120 * 16)
        painter.drawArc(QRectF(19, 3, 11, 20), -60 * 16, 120 * 16)
    elif state == "error":
        painter.drawLine(QPointF(27, 4), QPointF(27, 14))
        painter.drawPoint(QPointF(27, 20))
    elif state == "loading":
        painter.drawArc(QRectF(2, 2, 28, 28), 90 * 16, 120 * 16)
    elif state == "offline":
        painter.drawLine(QPointF(22, 4), QPointF(29, 11))
        painter.drawLine(QPointF(29, 4), QPointF(22, 11))
