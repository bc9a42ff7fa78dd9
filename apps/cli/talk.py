"""`edge talk` and `edge demo`: hold a conversation, live or from files."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apps.cli.options import json_option, overrides, privacy_option
from apps.signals import told_to_end
from edge.errors import UsageError

if TYPE_CHECKING:
    from apps.session import TurnLog
    from edge.frame import Event, Frame, Reply
    from runtime.sound.clear import Clarity

_QUESTION = Path(__file__).resolve().parents[1] / "assets" / "question.flac"


@click.command()
@click.option("--engine", help="Which engine answers.", metavar="NAME")
@click.option("--model", help="Model for the engine: an artifact folder or a name.", metavar="DIR")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Sound file instead of the microphone; several are turns of one conversation.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="WAV",
    help="Record the conversation from input time 0 on.",
)
@click.option("--stereo", is_flag=True, help="Record the user left and the assistant right.")
@click.option(
    "--clock",
    type=click.Choice(["real", "fast"]),
    default="real",
    show_default=True,
    help="fast skips the waiting in files; latencies stay the real ones.",
)
@click.option("--microphone", metavar="NAME", help="Input device, by name.")
@click.option("--speaker", metavar="NAME", help="Output device, by name.")
@click.option("--prompt", help="Who the assistant is.", metavar="TEXT")
@click.option("--voice", help="How it sounds: a voice's name, or a sound file.", metavar="VOICE")
@click.option("--seed", type=int, help="Equal seeds and sounds give equal replies.")
@click.option("--history/--no-history", default=None, help="Keep the transcript.")
@click.option(
    "--trace",
    "trace_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a Chrome trace of every stage.",
)
@privacy_option
@click.option("--explain", is_flag=True, help="Say why each turn ended or was held.")
@json_option
def talk(
    inputs: tuple[Path, ...],
    output: Path | None,
    stereo: bool,
    clock: str,
    trace_file: Path | None,
    explain: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Talk with the assistant: live, or from files with --input and --output."""
    if clock == "fast" and not inputs:
        raise UsageError("--clock fast needs --input FILE: a sound card runs in real time")
    if stereo and output is None:
        raise UsageError("--stereo needs --output WAV to write to")
    report, log = _converse(flags, inputs, output, stereo, clock, trace_file, quiet=as_json)
    if explain:
        for line in log.explained:
            click.echo(line, err=as_json)
    if as_json:
        click.echo(json.dumps(report))
    else:
        _panel(report)


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder for the recording.",
)
@json_option
def demo(out: Path, as_json: bool) -> None:
    """Let a bundled spoken question go through the whole assistant."""
    out.mkdir(parents=True, exist_ok=True)
    reply = out / "reply.wav"
    report, _ = _converse({}, (_QUESTION,), reply, False, "real", None, quiet=as_json)
    if not report["turns"]:
        raise UsageError("the assistant did not answer; run `edge doctor`")
    if as_json:
        click.echo(json.dumps({**report, "output": str(reply)}))
        return
    _panel(report)
    click.echo(f"\nThe reply is in {reply}. To talk to it yourself: .venv/bin/edge talk")
    click.echo("If that hears or says nothing: .venv/bin/edge doctor and .venv/bin/edge devices")


def _converse(
    flags: dict[str, Any],
    inputs: tuple[Path, ...],
    output: Path | None,
    stereo: bool,
    clock: str,
    trace_file: Path | None,
    *,
    quiet: bool,
) -> tuple[dict[str, Any], TurnLog]:
    """Open a session, hold one conversation, close it; returns the report and the turns."""
    from apps.privacy.seal import seal
    from edge.config import load_config

    config = load_config(overrides(flags)).config
    sealed = seal(config.privacy.level)  # before any thread, and before what could start one

    from apps.session import TurnLog, check_devices, check_files, open_port, open_session, summary
    from runtime.trace import Trace

    check_files(inputs, output)
    if not inputs:
        check_devices(config)
    began = time.monotonic()
    key = TalkKey()
    session = open_session(config, "fast" if clock == "fast" else "real", key.held)
    ready_s = 0.0

    captions = LiveCaptions(shown=not quiet and session.captioned)

    def hear(frame: Frame, reply: Reply) -> None:
        nonlocal ready_s
        captions.add(reply)
        if frame.index == 0:  # only now does sound really flow
            ready_s = time.monotonic() - began
            if not quiet:
                _say_ready(ready_s, inputs, config.turns.policy, sealed.level)

    try:
        opened = open_port(session, inputs, output, stereo=stereo)
        if not quiet:
            for note in session.notes:
                click.secho(note, dim=True)
        log = TurnLog(
            told=lambda event: None if quiet else _tell(event, opened.clarity(), captions.shown)
        )
        if not inputs and config.turns.policy == "push-to-talk":
            key.listen()
        with Trace(trace_file) as trace, _until_interrupted(not inputs) as stop:
            loop = session.talk(opened.port, trace=trace, log=log, stop=stop, also=hear)
        return summary(loop, log, ready_s, opened.clarity()), log
    finally:
        session.close()


def _say_ready(ready_s: float, inputs: tuple[Path, ...], policy: str, level: str) -> None:
    how = "listening" if not inputs else "playing " + ", ".join(p.name for p in inputs)
    if not inputs and policy == "push-to-talk":
        how = "press Enter to begin and to end what you say"
    offline = "" if level == "off" else f" ({level}: no network)"
    click.secho(f"ready in {ready_s:.1f} s, {how}{offline}", dim=True)
    sys.stdout.flush()


class LiveCaptions:
    """A duplex model's words as it says them, on one line until it falls silent."""

    def __init__(self, *, shown: bool) -> None:
        self.shown = shown
        self._open = False

    def add(self, reply: Reply) -> None:
        """Take a frame's caption; a reply's end ends the line."""
        if not self.shown:
            return
        if reply.text:
            click.secho(reply.text if self._open else reply.text.lstrip(), fg="green", nl=False)
            self._open = True
        if self._open and any(event.kind == "reply_ended" for event in reply.events):
            click.echo()
            self._open = False
        sys.stdout.flush()


class TalkKey:
    """Push-to-talk in a terminal: Enter is down, Enter again is up."""

    def __init__(self) -> None:
        self._down = False

    def held(self) -> bool:
        """Whether the key is down."""
        return self._down

    def listen(self) -> None:
        """Watch standard input from a thread, until it ends."""
        threading.Thread(target=self._watch, daemon=True, name="talk key").start()

    def _watch(self) -> None:
        for _ in sys.stdin:
            self._down = not self._down


@contextmanager
def _until_interrupted(live: bool) -> Iterator[Callable[[], bool]]:
    """Being told to end is the ordinary end of a live conversation; one from files fails by it."""
    over = threading.Event()
    if not live:
        yield over.is_set
        return
    with told_to_end(over.set):
        yield over.is_set


def _tell(event: Event, clarity: Clarity, captioned: bool) -> None:
    """What a person wants to see while it happens. captioned: the reply was shown as it came."""
    facts = event.facts
    if event.kind == "reply_started":
        if facts["user"]:
            click.secho(f"you   {facts['user']}", fg="cyan")
        latency = facts["latency_ms"]
        if isinstance(latency, dict) and "total" in latency:
            how = _heard_how(clarity)
            click.secho(f"      answered after {latency['total']:.0f} ms{how}", dim=True)
    elif event.kind == "reply_ended" and not captioned:
        cut = " [interrupted]" if facts["interrupted"] else ""
        click.secho(f"edge  {facts['reply']}{cut}", fg="green")
    elif event.kind == "nothing_said" and facts["user"]:
        click.secho(f"you   {facts['user']}", fg="cyan")
    elif event.kind == "stepped_down":
        click.secho(f"\nframes come late: {facts['what']}", fg="yellow")
    elif event.kind == "cache_moved":
        frame = "silent" if facts["silent"] else "sounding"
        click.secho(f"      cache moved in a {frame} frame, {facts['cost_ms']} ms", dim=True)
    sys.stdout.flush()


def _heard_how(clarity: Clarity) -> str:
    """The part of the latency line that tells of echo and gain."""
    told = ""
    if clarity.echo is not None and clarity.echo.erle_db is not None:
        told += f", echo {clarity.echo.erle_db:.0f} dB down"
    if abs(clarity.microphone.gain_db) >= 1:
        told += f", gain {clarity.microphone.gain_db:+.0f} dB"
    return told


def _panel(report: dict[str, Any]) -> None:
    """The latency table."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    stages = ("end_of_turn", "asr", "llm_first", "tts_first", "output", "total")
    table = Table(title="From the end of speech to the first audible sample, ms")
    table.add_column("turn")
    for stage in stages:
        table.add_column(stage, justify="right")
    for number, turn in enumerate(report["turns"], 1):
        latency = turn["latency_ms"]
        cells = ("" if latency.get(s) is None else f"{latency[s]:.0f}" for s in stages)
        table.add_row(str(number), *cells)
    if report["turns"]:
        console.print(table)
    for finding in report["microphone"]["findings"].values():
        console.print(f"note: {finding}", style="yellow", highlight=False)
    step, frames = report["frames"]["step_ms"], report["frames"]
    console.print(
        f"{frames['count']} frames, {frames['missed']} missed; step p50 {step['p50']:.1f}, "
        f"p99 {step['p99']:.1f}, max {step['max']:.1f} ms; peak memory {report['rss_mb']:.0f} MiB",
        highlight=False,
    )
