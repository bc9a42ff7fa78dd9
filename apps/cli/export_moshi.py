"""`edge export moshi` and `edge export voice`: a multistream checkpoint, or a voice for one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from apps.cli.options import json_option

_FILE = click.Path(path_type=Path, dir_okay=False)
Progress = Callable[[str, int, int], None]


@click.command("moshi")
@click.option("--checkpoint", type=_FILE, required=True, help="The model's safetensors file.")
@click.option(
    "--config", type=_FILE, help="Its config.json; without one the published 7B model is assumed."
)
@click.option("--tokenizer", type=_FILE, help="Its SentencePiece model, for captions and prompts.")
@click.option("--lora", type=_FILE, help="LoRA weights (safetensors) to merge into it.")
@click.option(
    "--keep-user-slices",
    is_flag=True,
    help="Keep the part of a PersonaPlex that only guesses at the user.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="The artifact."
)
@json_option
def moshi(
    checkpoint: Path,
    config: Path | None,
    tokenizer: Path | None,
    lora: Path | None,
    keep_user_slices: bool,
    out: Path,
    as_json: bool,
) -> None:
    """Convert a Moshi, PersonaPlex or Hibiki checkpoint into an artifact.

    Reads one tensor at a time. After an interrupt the same command goes on where it stopped.
    """
    from edge.manifest import read_manifest
    from export.moshi import ExportOptions, export_moshi

    options = ExportOptions(checkpoint, config, tokenizer, lora, keep_user_slices)
    began = time.monotonic()
    with _progress() as on_progress:
        export_moshi(options, out, on_progress)
    manifest = read_manifest(out)
    n_bytes = sum(record.size_bytes for record in manifest.files)
    report = {
        "artifact": str(out),
        "kind": manifest.kind,
        "model_type": manifest.config["model_type"],
        "size_bytes": n_bytes,
        "files": {record.path: record.size_bytes for record in manifest.files},
        "seconds": round(time.monotonic() - began, 1),
    }
    if as_json:
        click.echo(json.dumps(report))
        return
    click.echo(
        f"{out}: {report['model_type']}, {n_bytes / 1e9:.2f} GB in {report['seconds']} s; "
        f"make it smaller with `edge quantize {out} --recipe compact --out DIR`"
    )


@click.command("voice")
@click.argument("source", type=_FILE)
@click.option("--model", type=click.Path(path_type=Path), required=True, help="Its artifact.")
@click.option("--out", type=_FILE, required=True, help="The .safetensors file to write.")
@json_option
def voice(source: Path, model: Path, out: Path, as_json: bool) -> None:
    """Convert a voice for a PersonaPlex: a recording (.wav, .flac) or a published .pt file.

    Of a .pt file only plain tensors are read; no code in it is run.
    """
    from export.voices import convert_voice

    n_frames = convert_voice(source, model, out)
    if as_json:
        click.echo(json.dumps({"voice": str(out), "frames": n_frames}))
    else:
        click.echo(f"{out}: {n_frames} frames ({n_frames * 0.08:.1f} s)")


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on standard error where that is a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _name, _done, _total: None
        return
    with Bars(console=console, transient=True) as bars:
        task = bars.add_task("", total=None)

        def show(name: str, done: int, total: int) -> None:
            bars.update(task, description=name, completed=done, total=max(total, 1))

        yield show
