"""`edge quantize`: make an artifact smaller, and say what that changed."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from apps.cli.lazy import Lazy, LazyGroup
from apps.cli.options import json_option

if TYPE_CHECKING:
    from apps.cli.stages import OnProgress
    from quant.mimi_compare import CodecDifference
    from quant.onnx_presets import Quantized

COMMANDS = {
    "run": Lazy("apps.cli.quantize:run", "Write a smaller artifact (also without the word run)."),
}
_COMPARED_FRAMES = 150  # 12 s: past the wrap of the attention ring


class _RunByDefault(LazyGroup):
    """`edge quantize ARTIFACT ...` is `edge quantize run ARTIFACT ...`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `run` in front of what names no command and asks for no help."""
        names = {*self.list_commands(ctx), *ctx.help_option_names}
        if args and args[0] not in names:
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_RunByDefault, table=COMMANDS)
def quantize() -> None:
    """Make an artifact smaller by a recipe, and compare it with what it was made from."""


@click.command("run")
@click.argument("artifact", type=click.Path(path_type=Path), metavar="ARTIFACT")
@click.option(
    "--recipe",
    required=True,
    metavar="NAME",
    help="float, transparent, int8 or tiny; for a multistream model also compact and int4.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="A new folder."
)
@click.option(
    "--compare/--no-compare", default=True, help="Run a codec against ARTIFACT afterwards."
)
@json_option
def run(artifact: Path, recipe: str, out: Path, compare: bool, as_json: bool) -> None:
    """Quantize ARTIFACT, a float codec or multistream model, into a new folder."""
    from apps.cli.stages import stages
    from edge.manifest import read_manifest
    from quant.moshi import quantize_named
    from quant.onnx_presets import quantize_mimi
    from runtime.cores import available_cores
    from runtime.models.multistream.artifact import KIND

    difference = None
    with stages() as told:
        if read_manifest(artifact).kind == KIND:
            cores = available_cores()
            made = quantize_named(artifact, recipe, out, threads=cores, on_progress=told)
        else:
            made = quantize_mimi(artifact, recipe, out, on_progress=told)
            difference = _compare(artifact, out, told) if compare else None
    if as_json:
        click.echo(json.dumps(_as_dict(made, difference)))
    else:
        _print(made, difference)


def _compare(artifact: Path, out: Path, told: OnProgress) -> CodecDifference:
    """Run two codecs over the same sound."""
    from quant.mimi_compare import compare_codecs
    from runtime.models.mimi import MimiCodec
    from runtime.models.mimi_probe import probe_sound

    return compare_codecs(
        MimiCodec(artifact),
        MimiCodec(out),
        probe_sound(_COMPARED_FRAMES, seed=0),
        on_frame=lambda done, total: told("comparing", done, total),
    )


def _as_dict(made: Quantized, difference: CodecDifference | None) -> dict[str, object]:
    result: dict[str, object] = {
        "artifact": str(made.directory),
        "recipe": made.recipe,
        "size_bytes_before": made.size_bytes_before,
        "size_bytes": made.size_bytes,
        "tensors": dict(Counter(made.tensors.values())),
    }
    if difference is not None:
        snr_db = difference.snr_db
        result["difference"] = {
            "frames": difference.n_frames,
            "equal_codes": list(difference.equal),
            "snr_db": snr_db if math.isfinite(snr_db) else None,
        }
    return result


def _print(made: Quantized, difference: CodecDifference | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from edge.store import size_text

    before, after = size_text(made.size_bytes_before), size_text(made.size_bytes)
    table = Table(title=f"{made.directory}: {made.recipe}, {before} -> {after}")
    table.add_column("")
    table.add_column("found", justify="right")
    for scheme, count in sorted(Counter(made.tensors.values()).items()):
        table.add_row(f"weights as {scheme}", str(count))
    if difference is not None:
        for level, share in enumerate(difference.equal, 1):
            table.add_row(f"codes equal, level {level}", f"{share:.2%}")
        table.add_row("sound of equal codes, SNR", f"{difference.snr_db:.1f} dB")
        table.add_row("frames compared", str(difference.n_frames))
    Console().print(table)
