"""A run's loss curves as a picture, and what is worth telling of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.atomic import atomic_path
from edge.errors import MissingPackageError
from export.mini.checkpoints import RunState

_LEFT_OUT = {"step", "wall_s", "gradient", "rate"}
_SMOOTHED_OVER = 10


def draw_curves(state: RunState, path: Path, title: str) -> None:
    """Write every loss against steps as a PNG. Raises MissingPackageError without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError("matplotlib", extra="plots", needed_for="a picture") from error
    names = sorted({name for row in state.curve for name in row} - _LEFT_OUT)
    figure = Figure(figsize=(8, 2.2 * max(1, len(names))), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{title}: {state.step} steps, {state.wall_s / 60:.0f} min on {state.hardware}")
    for place, name in enumerate(names, 1):
        axes = figure.add_subplot(max(1, len(names)), 1, place)
        rows = [row for row in state.curve if name in row]
        steps, values = [row["step"] for row in rows], [row[name] for row in rows]
        axes.plot(steps, values, linewidth=0.4, alpha=0.5)
        axes.plot(steps, _smooth(values), linewidth=1.5)
        axes.set_ylabel(name)
    with atomic_path(path) as part:
        figure.savefig(part, format="png", dpi=90)


def _smooth(values: list[float]) -> list[float]:
    """Mean of each value and the nine before it."""
    windows = [values[max(0, i - _SMOOTHED_OVER + 1) : i + 1] for i in range(len(values))]
    return [sum(window) / len(window) for window in windows]


def told(state: RunState) -> dict[str, Any]:
    """What a command reports of a run."""
    return {
        "steps": state.step,
        "phase": state.phase,
        "minutes": round(state.wall_s / 60, 1),
        "hardware": state.hardware,
        "last": state.curve[-1] if state.curve else {},
    }
