"""A conversation on one time line: both waveforms, whose turn it was, and what was decided when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from apps.bench.talk import Recording
from edge.errors import MissingPackageError
from edge.frame import SAMPLE_RATE_HZ, Pcm

_POINTS = 3_000
_COLOURS = {
    "user_started": "#2a7f3f",
    "user_paused": "#b8860b",
    "user_resumed": "#2a7f3f",
    "user_ended": "#b03060",
    "reply_started": "#20508f",
    "reply_ended": "#20508f",
    "user_held": "#b03060",
    "yielded": "#b03060",
}


def draw(recording: Recording, path: Path, *, title: str) -> None:
    """Write the picture (format by the file's ending). Raises MissingPackageError."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError("matplotlib", extra="plots", needed_for="a picture") from error
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    user, turns, reply = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1.4, 3))
    figure.suptitle(title)
    _waveform(user, recording.user, "user", "#2a7f3f")
    _waveform(reply, recording.reply, "assistant", "#20508f")
    _phases(turns, recording)
    reply.set_xlabel("seconds")
    figure.savefig(path, dpi=110)


def _waveform(axes: Any, pcm: Pcm, name: str, colour: str) -> None:
    """The envelope of a sound: the largest and smallest sample of each point."""
    step = max(1, len(pcm) // _POINTS)
    blocks = pcm[: len(pcm) // step * step].reshape(-1, step)
    at_s = np.arange(len(blocks)) * step / SAMPLE_RATE_HZ
    axes.fill_between(at_s, blocks.min(axis=1), blocks.max(axis=1), color=colour, linewidth=0)
    axes.set_ylabel(name)
    axes.set_ylim(-1, 1)
    axes.set_yticks([])


def _phases(axes: Any, recording: Recording) -> None:
    """Bars for who is speaking, and a mark for each decision."""
    end_s = len(recording.user) / SAMPLE_RATE_HZ
    spans = (("user_started", "user_ended", 1.0), ("reply_started", "reply_ended", 0.0))
    for begin, end, row in spans:
        starts = [at for at, kind, _ in recording.events if kind == begin]
        ends = [at for at, kind, _ in recording.events if kind == end]
        for start in starts:
            stop = min((at for at in ends if at >= start), default=end_s)
            axes.barh(row, stop - start, left=start, height=0.8, color=_COLOURS[begin], alpha=0.4)
    for at_s, kind, _ in recording.events:
        if kind in _COLOURS:
            axes.axvline(at_s, color=_COLOURS[kind], linewidth=0.8)
            axes.annotate(
                kind.removeprefix("user_"), (at_s, 1.6), rotation=60, fontsize=6, va="bottom"
            )
    axes.set_yticks([0, 1], ["reply", "turn"])
    axes.set_ylim(-0.6, 3.2)
