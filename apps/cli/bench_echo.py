"""`edge bench echo`: does the assistant hear itself? A made room, no sound card needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from apps.cli.options import json_option


@click.command("echo")
@click.option(
    "--minutes",
    type=click.FloatRange(0, 600),
    default=10.0,
    show_default=True,
    help="How long the assistant talks alone, at each of three delays; 0 leaves that out.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Also write the JSON here."
)
@json_option
def bench_echo(minutes: float, out: Path | None, as_json: bool) -> int:
    """Send the assistant's voice through a made room and see whether it is taken for a talker.

    150 ms of reverberation, delays of 40 to 400 ms, clocks 50 ppm apart, the speaker 1.5 times as
    loud as the talker. Exit code 1 if 2 % of chunks or more are taken for speech, or if the
    assistant interrupts itself once.
    """
    from apps.bench.echo import EchoPlan, run_echo
    from apps.bench.machine import machine
    from edge.atomic import write_text
    from edge.config import load_config
    from edge.lock import read_lock
    from edge.store import ModelStore
    from runtime.engines.assemble import cascade_config
    from runtime.models.tts import Voice
    from runtime.models.vad import Vad

    store, config = ModelStore(read_lock()), load_config().config
    report = run_echo(
        Voice(store.files("hibari-heart")),
        Vad(store.files(config.models.vad)),
        plan=EchoPlan(minutes=minutes),
        policy=cascade_config(config).policy,
        audio=config.audio,
        told=lambda line: click.echo(line, err=True),
    )
    result = {"bench": "echo", "machine": machine(), **report}
    if out:
        write_text(out, json.dumps(result, indent=1))
    if as_json:
        click.echo(json.dumps(result))
    else:
        _table(report)
    return 0 if report["passed"] else 1


def _table(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="The assistant's own voice, through a room of 150 ms, 50 ppm, 1.5 x louder")
    for name in (
        "delay, ms",
        "taken for speech, raw %",
        "cancelled %",
        "ERLE first 2 s / later, dB",
        "talker noticed later by, chunks",
        "talker's chunks heard %",
        "ms a frame",
    ):
        table.add_column(name, justify="right")
    for trial in report["trials"]:
        table.add_row(
            f"{trial['setting']['room']['delay_ms']:g}",
            f"{trial['raw_percent']:.1f}",
            f"{trial['alone_percent']:.2f}",
            f"{trial['erle_early_db']:.0f} / {trial['erle_db']:.0f}",
            ", ".join("never" if n is None else str(n) for n in trial["onset_chunks"]),
            f"{trial['heard_percent']:.0f}",
            f"{trial['frame_ms']:.1f}",
        )
    console = Console()
    console.print(table)
    for talk in report["endurance"]:
        console.print(
            f"{talk['minutes']:g} minutes alone at {talk['delay_ms']:g} ms: "
            f"{talk['alone_percent']:.2f} % of chunks taken for speech, lowered "
            f"{talk['ducked']} times, held {talk['held']}, interrupted itself "
            f"{talk['self_interruptions']} times",
            highlight=False,
        )
    verdict = "within" if report["passed"] else "NOT within"
    console.print(f"{verdict} the limits: under 2 % of chunks, no self-interruption")
