"""`edge export asr`: a recogniser's float weights as ONNX graphs that recipes can be tried on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from apps.cli.options import json_option


@click.command("asr")
@click.option(
    "--checkpoint", type=click.Path(path_type=Path), metavar="DIR",
    help="Folder of a CTranslate2 Whisper model in float16 or float32; default: the starter's.",
)  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="A new folder."
)
@json_option
def asr(checkpoint: Path | None, out: Path, as_json: bool) -> None:
    """Export a Whisper recogniser as encoder and decoder graphs.

    CTranslate2 rounds to 8 bits while it loads; its file holds the float weights, and those are
    what is written here.
    """
    from edge.lock import read_lock
    from edge.store import ModelStore, size_text
    from export.whisper import export_whisper

    source = checkpoint or ModelStore(read_lock()).directory("whisper-tiny.en")
    made = export_whisper(source, out)
    if as_json:
        click.echo(json.dumps(asdict(made) | {"directory": str(made.directory)}))
    else:
        click.echo(
            f"{out}: {made.n_layers} layers each way, {made.dim} wide, {made.n_tokens} tokens, "
            f"{size_text(made.size_bytes)}"
        )
