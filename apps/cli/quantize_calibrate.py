"""`edge quantize calibrate | merge`: what a model's weights meet while speech runs through it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apps.cli.options import json_option
from apps.cli.quantize import artifact_argument

if TYPE_CHECKING:
    from quant.calibration import Calibration

_OUT = click.Path(path_type=Path, dir_okay=False)


@click.command("calibrate")
@artifact_argument
@click.option(
    "--speech", type=click.Path(path_type=Path), required=True, metavar="DIR",
    help="Clips to run; other ones than those that are measured on later.",
)  # fmt: skip
@click.option("--out", type=_OUT, required=True, metavar="FILE", help="A new file, .gguf.")
@click.option(
    "--codec", type=click.Path(path_type=Path), metavar="DIR",
    help="Encodes the speech for a multistream model; the one in ARTIFACT's folder if there is.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(1), help="Only so many clips, spread over speakers.")
@json_option
def calibrate(
    artifact: Path, speech: Path, out: Path, codec: Path | None, limit: int | None, as_json: bool
) -> None:
    """Run speech through ARTIFACT, a float codec or multistream model, and note what weights meet.

    FILE is an importance matrix as llama.cpp's quantizer takes it, with ranges, sizes and the
    hashes of model and speech beside. Give it to `edge quantize run --calibration FILE`. An
    interrupted call goes on where it stopped.
    """
    from apps.cli.stages import stages
    from quant.calibrate import calibrate as work
    from quant.measure.speech import read_speech
    from quant.subject import open_subject

    with stages() as told:
        subject = open_subject(artifact)
        clips = read_speech(speech, limit=limit)
        found = work(subject, clips, out, codec=codec, on_progress=told)
    left_out = len(clips.utterances) - len(found.speech)
    _say(out, found, as_json, {"clips_left_out": left_out})


@click.command("merge")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE..."
)
@click.option("--out", type=_OUT, required=True, metavar="FILE", help="A new file.")
@json_option
def merge(files: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Add calibrations of one model over different speech up, as if all of it had run at once."""
    from quant.calibrate import merge as work

    _say(out, work(list(files), out), as_json, {})


def _say(out: Path, found: Calibration, as_json: bool, more: dict[str, Any]) -> None:
    from edge.hashing import sha256_of

    rows = {
        label: {
            "inputs": len(one.sums),
            "rows": one.n_rows,
            "min": one.low,
            "max": one.high,
            "mean_square": float(one.mean_square.mean()),
            "size_p50": one.size_at(0.5),
            "size_p99": one.size_at(0.99),
            "size_p999": one.size_at(0.999),
        }
        for label, one in sorted(found.seen.items())
    }
    facts = {
        "calibration": str(out),
        "sha256": sha256_of(out),
        "model": found.model,
        "clips": len(found.speech),
        "frames": found.n_frames,
        "speech": found.speech,
        **more,
    }
    if as_json:
        click.echo(json.dumps({**facts, "weights": rows}))
        return
    from rich.table import Table

    from apps.cli.tables import show

    table = Table(box=None, pad_edge=False)
    for column in ("inputs", "rms", "half below", "99 % below", "largest", "weight"):
        table.add_column(column, justify="left" if column == "weight" else "right")
    for label, row in rows.items():
        sizes = (row["mean_square"] ** 0.5, row["size_p50"], row["size_p99"])
        largest = max(-row["min"], row["max"])
        table.add_row(str(row["inputs"]), *(f"{x:.3g}" for x in (*sizes, largest)), label)
    show(f"{out}: {len(rows)} weights over {len(found.speech)} clips", table)
    if more.get("clips_left_out"):
        click.echo(f"{more['clips_left_out']} clips left out: silent, clipped or the same sound")
