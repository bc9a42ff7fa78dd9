"""`edge bench wake`: does the wake word wake, and does other speech not?"""

from __future__ import annotations

import json
from pathlib import Path

import click

from apps.cli.options import json_option


@click.command("wake")
@click.option("--phrase", help="What its model was trained for.  [default: the model's name]")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Also write the JSON.")
@json_option
def bench_wake(phrase: str | None, out: Path | None, as_json: bool) -> None:
    """Say the phrase of [wake], and much else, in every synthetic voice that is here."""
    from apps.bench.machine import machine
    from apps.bench.wake import run_wake
    from apps.wake import open_wake_word
    from edge.atomic import write_text
    from edge.config import load_config
    from edge.lock import read_lock
    from edge.store import ModelStore
    from runtime.models.tts import Voice

    config, store = load_config().config.wake, ModelStore(read_lock())
    names = [
        entry.name
        for entry in store.lock.models
        if entry.format == "hibari" and set(store.status(entry.name).values()) == {"present"}
    ]
    voices = {name: Voice(store.files(name)) for name in names}
    said = phrase or config.model.replace("-", " ")
    report = run_wake(open_wake_word(config), voices, said, threshold=config.threshold)
    result = {"bench": "wake", "model": config.model, "machine": machine(), **report}
    if out:
        write_text(out, json.dumps(result, indent=1))
    if as_json:
        click.echo(json.dumps(result))
        return
    click.echo(
        f'"{said}" by {len(voices)} synthetic voices, clean and with noise 20 and 10 dB down: '
        f"{report['missed']} of {report['said']} missed, woken {report['after_ms_p50']} ms after "
        f"its end\n{report['false']} of {report['other']} other sentences woke it: "
        f"{', '.join(report['false_texts']) or 'none'}"
    )
