"""`edge export`: turn checkpoints into artifacts that this runtime runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from apps.cli.lazy import Lazy, LazyGroup
from apps.cli.options import json_option

if TYPE_CHECKING:
    from export.mimi import Exported

EXPORTS = {
    "mimi": Lazy("apps.cli.export:mimi", "The streaming codec: two ONNX graphs."),
    "moshi": Lazy("apps.cli.export_moshi:moshi", "The multistream model: a GGUF and a graph."),
    "asr": Lazy("apps.cli.export_asr:asr", "A Whisper recogniser: three ONNX graphs."),
    "voice": Lazy("apps.cli.export_moshi:voice", "A voice prompt for it, from a recording."),
}


@click.group(cls=LazyGroup, table=EXPORTS)
def export() -> None:
    """Turn a checkpoint into an artifact: graphs, manifest and hashes, checked against torch."""


@click.command("mimi")
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="Safetensors, in the official or the transformers layout.",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The sizes, as JSON; without it those of the published codec.",
)
@click.option("--codebooks", type=int, default=8, show_default=True, help="Codes a frame.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="A new folder."
)
@json_option
def mimi(
    checkpoint: Path, config_file: Path | None, codebooks: int, out: Path, as_json: bool
) -> None:
    """Export a Mimi checkpoint and compare the graphs with torch, frame by frame.

    Nothing is written unless every frame agrees, well past the wrap of the attention ring.
    """
    from apps.cli.stages import stages
    from export.mimi import export_mimi

    with stages() as told:
        made = export_mimi(
            checkpoint, out, config_file=config_file, n_codebooks=codebooks, on_progress=told
        )
    if as_json:
        click.echo(json.dumps(_as_dict(made)))
    else:
        _print(made)


def _as_dict(made: Exported) -> dict[str, object]:
    parity = made.parity
    return {
        "artifact": str(made.directory),
        "size_bytes": made.size_bytes,
        "codebooks": made.n_codebooks,
        "parity": {
            "frames": parity.n_frames,
            "equal_codes": list(parity.equal),
            "max_wave_error": parity.max_error,
            "wave_rms": parity.rms,
            "passed": parity.passed,
        },
    }


def _print(made: Exported) -> None:
    from rich.table import Table

    from apps.cli.tables import show
    from edge.store import size_text

    parity = made.parity
    table = Table()
    table.add_column("compared with torch")
    table.add_column("found", justify="right")
    table.add_row("frames", str(parity.n_frames))
    for level, share in enumerate(parity.equal, 1):
        table.add_row(f"codes equal, level {level}", f"{share:.2%}")
    table.add_row("largest error of a sample", f"{parity.max_error:.1e}")
    table.add_row("loudness of the sound (rms)", f"{parity.rms:.3f}")
    show(f"{made.directory}: {size_text(made.size_bytes)}", table)
