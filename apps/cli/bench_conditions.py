"""`edge bench conditions`: word errors and latency over poor lines."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click

from apps.cli.options import json_option


@click.command("conditions")
@click.option("--first", type=int, metavar="N", help="Only the first N questions.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Also write the JSON here."
)
@json_option
def bench_conditions(first: int | None, out: Path | None, as_json: bool) -> None:
    """Ask questions over a telephone, a lossy line, in noise, from afar, quietly."""
    from apps.bench.conditions import run_conditions
    from apps.bench.machine import machine
    from apps.bench.questions import QUESTIONS
    from apps.session import open_session
    from edge.atomic import write_text
    from edge.config import load_config
    from edge.lock import read_lock
    from edge.store import ModelStore
    from runtime.models.asr import Recogniser
    from runtime.models.tts import Voice

    store, config = ModelStore(read_lock()), load_config().config
    voice = Voice(store.files("hibari-heart"))
    recogniser = Recogniser(store.files(config.models.asr))
    session = open_session(config, "fast")
    told = None if as_json else _tell
    with tempfile.TemporaryDirectory() as folder:
        lines = run_conditions(session, voice, recogniser, QUESTIONS[:first], Path(folder), told)
    session.close()
    speech = "synthesised by the starter voice: no claim about real speakers"
    result = {"bench": "conditions", "speech": speech, "machine": machine(), "lines": lines}
    if out:
        write_text(out, json.dumps(result, indent=1))
    if as_json:
        click.echo(json.dumps(result))
    else:
        click.echo(f"speech: {speech}")


def _tell(row: dict[str, Any]) -> None:
    lost = 100 * (row["live_wer"] - row["offline_wer"])
    wait = f"{row['latency_p50_ms']:.0f} ms" if row["latency_p50_ms"] is not None else "-"
    click.echo(
        f"{row['line']:<10} words wrong: live {100 * row['live_wer']:5.1f} %, offline "
        f"{100 * row['offline_wer']:5.1f} % ({lost:+.1f}); answered {row['answered']} of "
        f"{row['questions']}; first sound after {wait}"
    )
