"""`edge export asr`: a Whisper checkpoint becomes ONNX graphs, checked against torch."""

from __future__ import annotations

import json
from pathlib import Path

import click

from apps.cli.options import json_option


@click.command("asr")
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="A Whisper folder: CTranslate2's (float16 or float32) or transformers'. The name of a "
    "recogniser in models.lock serves too.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="A new folder."
)
@json_option
def asr(checkpoint: Path, out: Path, as_json: bool) -> None:
    """Export a Whisper checkpoint as encoder, cross keys and decoder step, in float32.

    Windows may be as short as the speech. What `edge quantize` makes of the artifact can be
    compared with `edge bench asr --artifact DIR`.
    """
    from apps.cli.stages import stages
    from edge.store import size_text
    from export.asr import export_asr

    folder = checkpoint if checkpoint.exists() else _from_lock(checkpoint)
    with stages() as told:
        made = export_asr(folder, out, on_progress=told)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "artifact": str(made.directory),
                    "size_bytes": made.size_bytes,
                    "tokens": made.n_tokens,
                    "errors": made.errors,
                }
            )
        )
        return
    click.echo(f"{made.directory}: {size_text(made.size_bytes)}, {made.n_tokens} tokens")
    for name, error in made.errors.items():
        click.echo(f"  {name}: at most {error:.1e} from torch")


def _from_lock(name: Path) -> Path:
    """The folder of a fetched recogniser. Raises what the store raises for an unknown name."""
    from edge.lock import read_lock
    from edge.store import ModelStore

    files = ModelStore(read_lock()).files(str(name))
    return next(iter(files.values())).parent
