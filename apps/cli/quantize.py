"""`edge quantize`: look at a model, plan, make it smaller, check what was made."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apps.cli.lazy import Lazy, LazyGroup
from apps.cli.options import json_option

if TYPE_CHECKING:
    from quant.mimi_compare import CodecDifference
    from quant.run import Made

COMMANDS = {
    "run": Lazy("apps.cli.quantize:run", "Write a smaller artifact (also without the word run)."),
    "inspect": Lazy("apps.cli.quantize_look:inspect", "List weights, sizes and outliers."),
    "plan": Lazy("apps.cli.quantize_look:plan", "What recipes would give, without writing."),
    "calibrate": Lazy("apps.cli.quantize_calibrate:calibrate", "Note what weights meet in speech."),
    "merge": Lazy("apps.cli.quantize_calibrate:merge", "Several calibrations as one."),
    "search": Lazy("apps.cli.quantize_find:search", "Find the best mix under a size."),
    "verify": Lazy("apps.cli.quantize_look:verify", "Hashes, round trip, the same bytes again."),
    "lift": Lazy("apps.cli.quantize:lift", "The float form of a model that computes in integers."),
    "recipes": Lazy("apps.cli.quantize_look:recipes", "List the built-in recipes, or show one."),
}
_COMPARED_FRAMES = 150  # 12 s: past the wrap of the attention ring

artifact_argument = click.argument("artifact", type=click.Path(path_type=Path), metavar="ARTIFACT")
role_option = click.option(
    "--role", metavar="ROLE", help="What another maker's file does: tts, asr, llm or codec."
)


class RunByDefault(LazyGroup):
    """A group in which `GROUP X ...` is `GROUP run X ...`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `run` in front of what names no command and asks for no help."""
        names = {*self.list_commands(ctx), *ctx.help_option_names}
        if args and args[0] not in names:
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=RunByDefault, table=COMMANDS)
def quantize() -> None:
    """Make an artifact, or another maker's ONNX or GGUF file, smaller by a recipe."""


@click.command("run")
@artifact_argument
@role_option
@click.option("--recipe", required=True, metavar="NAME|FILE", help="Built-in, or a TOML file.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="A new folder."
)
@click.option(
    "--calibration", type=click.Path(path_type=Path), metavar="FILE",
    help="From `edge quantize calibrate`, or an importance matrix of llama.cpp's.",
)  # fmt: skip
@click.option(
    "--with", "companions", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True, metavar="FILE", help="A file that goes along, such as a vocabulary.",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--compare/--no-compare", default=True, help="Run a codec against ARTIFACT after.")
@json_option
def run(
    artifact: Path,
    role: str | None,
    recipe: str,
    out: Path,
    calibration: Path | None,
    companions: tuple[Path, ...],
    threads: int,
    compare: bool,
    as_json: bool,
) -> None:
    """Quantize ARTIFACT, a float model, into a new folder.

    An interrupted run goes on where it stopped. `edge measure ARTIFACT OUT` then says what it
    did to the sound.
    """
    from apps.cli.stages import stages
    from quant.recipe import load_recipe
    from quant.run import quantize as make
    from quant.subject import open_subject

    wanted = load_recipe(recipe)
    with stages() as told:
        subject = open_subject(artifact, role=role)
        made = make(
            subject, wanted, out, threads=threads, companions=companions,
            calibration=calibration, on_progress=told,
        )  # fmt: skip
        difference = (
            _compared(artifact, out, told) if compare and subject.section == "mimi" else None
        )
    if as_json:
        click.echo(json.dumps(_as_dict(made, difference)))
    else:
        _print(made, difference)


@click.command("lift")
@artifact_argument
@role_option
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="A new folder."
)
@json_option
def lift(artifact: Path, role: str | None, out: Path, as_json: bool) -> None:
    """Write the float form of an ONNX file that was quantized dynamically by its maker.

    What rounding of its weights took away stays away; its activations become floats. It is what
    smaller forms of such a model are compared with.
    """
    from quant.run import lift_model
    from quant.subject import open_subject

    made = lift_model(open_subject(artifact, role=role), out)
    if as_json:
        click.echo(json.dumps(_as_dict(made, None)))
    else:
        click.echo(f"{out}: float arithmetic on the weights as published ({made.size_bytes} bytes)")


def _compared(artifact: Path, out: Path, told: Any) -> CodecDifference:
    from quant.mimi_compare import compare_codecs
    from runtime.models.mimi import MimiCodec
    from runtime.models.mimi_probe import probe_sound

    return compare_codecs(
        MimiCodec(artifact),
        MimiCodec(out),
        probe_sound(_COMPARED_FRAMES, seed=0),
        on_frame=lambda done, total: told("comparing", done, total),
    )


def _as_dict(made: Made, difference: CodecDifference | None) -> dict[str, object]:
    result: dict[str, object] = {
        "artifact": str(made.directory),
        "recipe": made.recipe,
        "size_bytes_before": made.size_bytes_before,
        "size_bytes": made.size_bytes,
        "tensors": dict(Counter(made.tensors.values())),
        "fell_back": list(made.fell_back),
    }
    if difference is not None:
        snr_db = difference.snr_db
        result["difference"] = {
            "frames": difference.n_frames,
            "equal_codes": list(difference.equal),
            "snr_db": snr_db if math.isfinite(snr_db) else None,
        }
    return result


def _print(made: Made, difference: CodecDifference | None) -> None:
    from rich.table import Table

    from apps.cli.tables import show
    from edge.store import size_text

    before, after = size_text(made.size_bytes_before), size_text(made.size_bytes)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column("")
    table.add_column("", justify="right")
    for scheme, count in sorted(Counter(made.tensors.values()).items()):
        table.add_row(f"tensors as {scheme}", str(count))
    if made.fell_back:
        table.add_row("of them not as first wished", str(len(made.fell_back)))
    if difference is not None:
        for level, share in enumerate(difference.equal, 1):
            table.add_row(f"codes equal, level {level}", f"{share:.2%}")
        table.add_row("sound of equal codes, SNR", f"{difference.snr_db:.1f} dB")
        table.add_row("frames compared", str(difference.n_frames))
    show(f"{made.directory}: {made.recipe}, {before} -> {after}", table)
