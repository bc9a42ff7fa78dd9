"""`edge bench daemon`: hours of the daemon with random commands and a card that comes and goes."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import click

from apps.cli.options import json_option

_MOST_GROWTH_MB = 32.0  # models that are loaded anew do not come to lie quite as before


@click.command("daemon")
@click.option("--minutes", type=float, default=20.0, show_default=True, help="Of its clock.")
@click.option(
    "--clock", type=click.Choice(["real", "fast"]), default="real", show_default=True,
    help="fast skips the waiting; the computation is the same.",
)  # fmt: skip
@click.option("--commands", type=int, default=1000, show_default=True, help="Over the socket.")
@click.option("--reloads", type=int, default=10, show_default=True, help="Among the commands.")
@click.option("--losses", type=int, default=40, show_default=True, help="Of the sound card.")
@click.option(
    "--every", "every_s", type=float, default=20.0, show_default=True, metavar="SECONDS",
    help="From an answer to the next question, on average.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, another day.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Also write the JSON.")
@json_option
def bench_daemon(
    minutes: float,
    clock: str,
    commands: int,
    reloads: int,
    losses: int,
    every_s: float,
    seed: int,
    out: Path | None,
    as_json: bool,
) -> int:
    """Nothing that clients or cards do may cost a frame, memory, a conversation or a kept turn.

    Exit code 1 if it does. Frames that a busy machine misses count as well.
    """
    from apps.bench.daemon import DaemonPlan, run_daemon_soak
    from apps.bench.machine import machine
    from apps.bench.questions import QUESTIONS
    from edge.atomic import write_text
    from edge.config import load_config
    from edge.lock import read_lock
    from edge.store import ModelStore
    from runtime.models.tts import Voice

    store = ModelStore(read_lock())
    voice = Voice(store.files(load_config().config.models.tts))
    sounds = [voice.speak(question.text, seed=i).pcm for i, question in enumerate(QUESTIONS)]
    del voice
    plan = DaemonPlan(
        minutes, "fast" if clock == "fast" else "real", commands, reloads, losses, every_s,
        seed=seed,
    )  # fmt: skip
    flags = {"history.enabled": True, "privacy.level": "off"}
    told = None if as_json else (lambda at, mb: click.echo(f"{at:6.1f} min  {mb:.0f} MiB"))
    with tempfile.TemporaryDirectory(prefix="edge") as folder:
        Path(folder, "models").symlink_to(store.root)  # the same models, a history of its own
        os.environ["EDGE_DATA_DIR"] = folder
        os.environ["EDGE_CONTROL_SOCKET"] = f"{folder}/s"
        report = run_daemon_soak(plan, sounds, flags, told)
    result = {"bench": "daemon", "every_s": every_s, "machine": machine(), **report}
    if out:
        write_text(out, json.dumps(result, indent=1))
    history, rss = report["history"], report["rss_mb"]
    if as_json:
        click.echo(json.dumps(result))
    else:
        click.echo(
            f"{minutes:g} minutes ({clock} clock): {report['missed']} of {report['frames']} frames "
            f"missed, {report['missed_after_a_command']} of them after a command; "
            f"{report['commands']['answered']} of {commands} commands answered, median "
            f"{report['commands']['took_ms'].get('p50')} ms; {losses} times no card\n"
            f"{report['ended_by_error']} conversations ended by an error; "
            f"{report['answers']} answers; {history['kept']} of {history['expected']} turns kept; "
            f"memory {rss['second_half_first']} to {rss['second_half_last']} MiB in the second half"
        )
    return 0 if _held(report) else 1


def _held(report: dict[str, Any]) -> bool:
    """Whether nothing was lost, late or grown."""
    troubles = (report["missed"], report["ended_by_error"], report["commands"]["failed"])
    same = report["history"]["same"]
    return same and not any(troubles) and report["rss_grown_mb"] < _MOST_GROWTH_MB
