"""`edge bench soak`: a long conversation; memory and latency must not grow, no frame be missed."""

from __future__ import annotations

import json
from pathlib import Path

import click

from apps.cli.options import json_option


@click.command("soak")
@click.option("--minutes", type=float, default=30.0, show_default=True, help="How long to talk.")
@click.option(
    "--clock",
    type=click.Choice(["real", "fast"]),
    default="fast",
    show_default=True,
    help="fast skips the waiting; the computation is the same.",
)
@click.option(
    "--interrupt",
    "interrupt_p",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="How often a reply is talked over.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, another talk.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Also write the JSON here."
)
@json_option
def bench_soak(
    minutes: float,
    clock: str,
    interrupt_p: float,
    seed: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Hold a long conversation with random questions and interruptions."""
    from apps.bench.machine import machine
    from apps.bench.questions import QUESTIONS
    from apps.bench.soak import run_soak
    from apps.session import open_session
    from edge.atomic import write_text
    from edge.config import load_config
    from edge.lock import read_lock
    from edge.store import ModelStore
    from runtime.models.tts import Voice

    voice = Voice(ModelStore(read_lock()).files("hibari-heart"))
    sounds = [voice.speak(question.text, seed=i).pcm for i, question in enumerate(QUESTIONS)]
    del voice  # the user's voice is not the assistant's memory
    session = open_session(load_config().config, "fast" if clock == "fast" else "real")
    told = None if as_json else (lambda p: click.echo(f"{p['at_s']:7.0f} s  {p['rss_mb']:.0f} MiB"))
    report = run_soak(
        session, sounds, minutes=minutes, interrupt_p=interrupt_p, seed=seed, told=told
    )
    session.close()
    result = {"bench": "soak", "clock": clock, "machine": machine(), **report}
    if out:
        write_text(out, json.dumps(result, indent=1))
    if as_json:
        click.echo(json.dumps(result))
        return
    step = report["frames"]["step_ms"]
    click.echo(
        f"{minutes:g} minutes ({clock} clock): {report['answered']} answers, "
        f"{report['interruptions']} interruptions, silent after {report['silent_after_ms']} ms\n"
        f"latency {report['latency_ms']} ms, slope {report['latency_slope_ms_per_h']} ms/h; "
        f"memory {report['peak_rss_mb']:.0f} MiB, slope {report['rss_slope_mb_per_h']} MiB/h\n"
        f"{report['frames']['missed']} of {report['frames']['count']} frames missed, "
        f"step p99 {step['p99']} ms, max {step['max']} ms"
    )
