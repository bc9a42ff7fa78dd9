"""A conversation on one time line: both waveforms, whose turn it was, what was decided when, and
what the models did meanwhile."""

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
# The workers' stages from the first to the last; a stage without a row is not drawn.
_STAGES = {
    "asr_ahead": "recogniser, ahead",
    "llm_ahead": "prompt, ahead",
    "asr": "recogniser",
    "turn": "end of turn?",
    "llm_whole": "whole sentence?",
    "llm": "language model",
    "tts": "voice",
}
_SAME_ROW = {"llm_first": "llm"}


def draw(recording: Recording, path: Path, *, title: str) -> None:
    """Write the picture (format by the file's ending). Raises MissingPackageError."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError("matplotlib", extra="plots", needed_for="a picture") from error
    figure = Figure(figsize=(12, 6), layout="constrained")
    FigureCanvasAgg(figure)
    user, turns, work, reply = figure.subplots(4, 1, sharex=True, height_ratios=(3, 2.2, 3, 3))
    figure.suptitle(title)
    _waveform(user, recording.user, "user", "#2a7f3f")
    _waveform(reply, recording.reply, "assistant", "#20508f")
    _phases(turns, recording)
    _work(work, recording)
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
                kind.removeprefix("user_"),
                (at_s, 1.55),
                xytext=(2, 0),
                rotation=45,
                fontsize=7,
                textcoords="offset points",
                va="bottom",
            )
    axes.set_yticks([0, 1], ["reply", "turn"])
    axes.set_ylim(-0.6, 4.6)


def _work(axes: Any, recording: Recording) -> None:
    """A bar for each stage of each worker."""
    rows = {stage: -row for row, stage in enumerate(_STAGES)}
    for began_s, ended_s, name in recording.stages:
        row = rows.get(_SAME_ROW.get(name, name))
        if row is not None:
            axes.barh(row, ended_s - began_s, left=began_s, height=0.7, color="#555")
    axes.set_yticks(list(rows.values()), list(_STAGES.values()), fontsize=7)
    axes.set_ylim(min(rows.values()) - 0.6, 0.6)
    axes.grid(axis="x", linewidth=0.3)
