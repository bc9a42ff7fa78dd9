"""`edge bench talk`: from the end of speech to the first audible sample, stage by stage."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apps.cli.options import json_option, overrides
from edge.errors import UsageError

if TYPE_CHECKING:
    from apps.bench.background import Background
    from apps.bench.talk import Asked
    from edge.config import Config
    from runtime.models.asr import Window
    from runtime.sound.port import AudioPort


@click.command("talk")
@click.option(
    "--questions",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of spoken questions; without it the starter voice asks sixteen.",
)
@click.option(
    "--against",
    type=click.Choice(["sequential", "pipecat"]),
    help="Ask a second assistant, with the same models: a plain loop, one stage after the other, "
    "after a fixed silence, in turn; or another framework, afterwards.",
)
@click.option(
    "--peer-python",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="A Python that has that framework (pip install pipecat-ai==1.14.0 in a venv of its own).",
)
@click.option(
    "--peer-window",
    type=click.Choice(["short", "full"]),
    default="short",
    show_default=True,
    help="What its recogniser hears: our short windows, or 30 s as such frameworks do.",
)
@click.option(
    "--behind",
    type=click.Choice(["babble", "noise"]),
    help="Other people talking, or noise, behind the user from beginning to end.",
)
@click.option(
    "--below",
    "below_db",
    type=float,
    default=20.0,
    show_default=True,
    metavar="DB",
    help="How far below the user that is.",
)
@click.option("--first", type=int, metavar="N", help="Only the first N questions.")
@click.option(
    "--picture",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw one conversation (.png or .svg).",
)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Also write the JSON here."
)
@json_option
def bench_talk(
    questions: Path | None,
    against: str | None,
    peer_python: Path | None,
    peer_window: Window,
    behind: Background | None,
    below_db: float,
    first: int | None,
    picture: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Ask spoken questions in real time and measure how long each answer takes to begin."""
    from apps.bench.machine import machine
    from apps.bench.picture import draw
    from apps.bench.talk import run_bench, sequential
    from apps.session import open_session
    from edge.atomic import write_text
    from edge.config import load_config

    if against == "pipecat" and (peer_python is None or behind):
        raise UsageError("--against pipecat needs --peer-python, and no --behind")
    config = load_config(overrides({})).config
    began = time.monotonic()
    sessions = {"edge": open_session(config)}
    cold_start_s = round(time.monotonic() - began, 2)
    if against == "sequential":
        sessions[against] = open_session(sequential(config))
    with _items(questions, first) as items:
        around = _background(behind, below_db, items) if behind else (lambda port: port)
        report, kept = run_bench(sessions, items, None if as_json else _tell, around)
        for session in sessions.values():
            session.close()
        peer = {}
        if peer_python:
            peer = _peer(against, peer_python, peer_window, config, items, as_json)
    setting = {"behind": behind, "below_db": below_db if behind else None}
    result = {"bench": "talk", "machine": machine(), "cold_start_s": cold_start_s, **setting}
    result |= {**report, **peer}
    if picture:
        draw(kept["edge"], picture, title="One conversation")
    if out:
        write_text(out, json.dumps(result, indent=1))
    if as_json:
        click.echo(json.dumps(result))
    else:
        _table(report, cold_start_s)
        for name, found in peer.items():
            click.echo(_of_peer(name, found, report["edge"]["after_end_ms"]))


def _peer(
    name: str | None,
    python: Path,
    window: Window,
    config: Config,
    items: list[Asked],
    as_json: bool,
) -> dict[str, Any]:
    """The report of another framework, by its name."""
    from apps.bench.peer import run_peer
    from edge.lock import read_lock
    from edge.store import ModelStore

    if name is None or name == "sequential":
        raise UsageError("--peer-python is for --against pipecat")

    def tell(row: dict[str, Any]) -> None:
        after = row.get("after_end_ms", "-")
        click.echo(
            f"{name:<11}{row['question']:<10}{after!s:>8} ms  {row['user']}  ->  {row['reply']}"
        )

    store = ModelStore(read_lock())
    told = None if as_json else tell
    return {name: run_peer(name, python, config, store, items, told, window=window)}


def _of_peer(name: str, found: dict[str, Any], ours: dict[str, float]) -> str:
    """What a peer came to, in a line or two; ours: the same quantity of edge."""
    from apps.bench.quantiles import shown

    theirs = found["after_end_ms"]
    return (
        f"{name}: {found['answered']} of {found['questions']} answered, {found['right']} right, "
        f"{found['half_answered']} half answered, {found['in_several_turns']} in several turns; "
        f"{found['cpu_s']:.0f} s of processor\n"
        "real end of the question to first sound, ms, p50 / p95: "
        f"edge {shown(ours)}, {name} {shown(theirs)}"
    )


@contextmanager
def _items(folder: Path | None, first: int | None) -> Iterator[list[Asked]]:
    """The questions to ask: a folder's files, or the built-in ones, spoken for the occasion."""
    from apps.bench.questions import write_questions
    from apps.bench.talk import Asked, asked
    from edge.lock import read_lock
    from edge.store import ModelStore
    from runtime.models.tts import Voice

    if folder is not None:
        paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in (".wav", ".flac"))
        if not paths:
            raise UsageError(f"{folder} holds no .wav or .flac file")
        yield [Asked(p.stem, p, None) for p in paths][:first]
        return
    with tempfile.TemporaryDirectory() as spoken:
        voice = Voice(ModelStore(read_lock()).files("hibari-heart"))
        yield [asked(*item) for item in write_questions(voice, Path(spoken))][:first]


def _background(
    kind: Background, below_db: float, items: list[Asked]
) -> Callable[[AudioPort], AudioPort]:
    """Puts a background so far below the questions behind a port."""
    import numpy as np

    from apps.bench.background import InBackground, background, level_below
    from edge.lock import read_lock
    from edge.store import ModelStore
    from edge.wav import open_audio
    from runtime.models.tts import Voice

    sound = background(kind, Voice(ModelStore(read_lock()).files("hibari-heart")))
    frames = []
    for item in items:
        with open_audio(item.path) as reader:
            frames += list(reader)
    level = level_below(np.concatenate(frames), below_db)
    return lambda port: InBackground(port, sound, level=level)


def _tell(name: str, row: dict[str, Any]) -> None:
    total = f"{row['latency_ms']['total']:6.0f} ms" if "latency_ms" in row else "no answer"
    marks = " CUT OFF" if row["cut_off"] else ""
    click.echo(f"{name:<11}{row['question']:<10}{total}{marks}  {row['user']}  ->  {row['reply']}")


def _table(report: dict[str, Any], cold_start_s: float) -> None:
    from rich.console import Console
    from rich.table import Table

    from apps.bench.quantiles import shown
    from apps.bench.talk import STAGES

    table = Table(title="End of speech to first audible sample, ms: p50 / p95")
    table.add_column("")
    for stage in STAGES:
        table.add_column(stage, justify="right")
    for name, part in report.items():
        table.add_row(name, *(shown(part["latency_ms"][stage]) for stage in STAGES))
    console = Console()
    console.print(table)
    for name, part in report.items():
        step = part["frames"]["step_ms"]
        console.print(
            f"{name}: {part['answered']} of {part['questions']} answered, {part['right']} right, "
            f"{part['cut_off']} cut off, {part['half_answered']} half answered, "
            f"{part['replies_cut']} replies cut; "
            f"step p99 {step['p99']:.1f} ms, {part['frames']['missed']} of "
            f"{part['frames']['count']} frames missed; {part['cpu_s']:.0f} s of processor, "
            f"{part['peak_rss_mb']:.0f} MiB at most",
            highlight=False,
        )
    console.print(f"cold start {cold_start_s:.1f} s", highlight=False)
