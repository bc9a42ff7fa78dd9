"""`edge quantize inspect | plan | verify | recipes`: looking, without writing anything."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apps.cli.options import json_option
from apps.cli.quantize import artifact_argument, role_option

if TYPE_CHECKING:
    from quant.inspect import Facts
    from quant.planning import Forecast

DEVICE_NAMES = (
    "rpi4, rpi5, jetson-orin-nano, jetson-agx-orin, laptop-ddr5, apple-m2, rtx-3060 or rtx-4090"
)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKMG]?)i?B?")
_UNITS = {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}


@click.command("inspect")
@artifact_argument
@role_option
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="Rows to show.")
@json_option
def inspect(artifact: Path, role: str | None, top: int, as_json: bool) -> None:
    """List the weights of ARTIFACT, largest first: names, sizes, kinds, outliers."""
    from apps.cli.stages import stages
    from quant.inspect import inspect as look
    from quant.subject import open_subject

    with stages() as told:
        subject = open_subject(artifact, role=role)
        facts = look(subject, on_progress=told)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "artifact": str(artifact),
                    "section": subject.section,
                    "recipe": subject.recipe,
                    "size_bytes": subject.size_bytes,
                    "n_weights": sum(one.n_values for one in facts),
                    "tensors": [asdict(one) | {"outliers": one.outliers} for one in facts],
                }
            )
        )
    else:
        _print_facts(facts, top)


@click.command("plan")
@artifact_argument
@role_option
@click.option(
    "--recipe", "names", multiple=True, metavar="NAME|FILE", help="Default: all built in."
)
@click.option("--target-size", metavar="SIZE", help="Of the files, such as 90MB.")
@click.option("--target-bpw", type=click.FloatRange(0.5, 32), help="Mean bits a weight.")
@click.option("--device", metavar="NAME", help=f"A machine that is not here: {DEVICE_NAMES}.")
@json_option
def plan(
    artifact: Path,
    role: str | None,
    names: tuple[str, ...],
    target_size: str | None,
    target_bpw: float | None,
    device: str | None,
    as_json: bool,
) -> int:
    """Size, memory, bytes a frame and expected error of recipes, without writing anything.

    Exit code 1 where none meets the target.
    """
    from apps.cli.stages import stages
    from quant.planning import Target, best, forecasts
    from quant.recipe import load_recipe
    from quant.subject import open_subject

    target = Target(
        size_bytes=None if target_size is None else parse_size(target_size),
        bits_per_weight=target_bpw,
        device=device,
    )
    recipes = [load_recipe(name) for name in names]
    with stages() as told:
        subject = open_subject(artifact, role=role)
        found = forecasts(subject, target, recipes, on_progress=told)
    choice = best(found)
    if as_json:
        rows = [_plain(asdict(one) | {"fits": one.fits}) for one in found]
        chosen = choice.recipe if choice else None
        click.echo(json.dumps({"target": asdict(target), "choice": chosen, "recipes": rows}))
    else:
        _print_plan(found, choice, device)
    return 0 if choice else 1


@click.command("verify")
@artifact_argument
@click.option(
    "--source", type=click.Path(path_type=Path), metavar="ARTIFACT", help="The float model."
)
@role_option
@click.option("--recipe", metavar="NAME|FILE", help="Make it again and compare every byte.")
@click.option(
    "--calibration", type=click.Path(path_type=Path), metavar="FILE",
    help="What it was made with, to make it again.",
)  # fmt: skip
@json_option
def verify(
    artifact: Path, source: Path | None, role: str | None, recipe: str | None,
    calibration: Path | None, as_json: bool,
) -> int:  # fmt: skip
    """Compare every file of ARTIFACT with its hash and read every weight back."""
    from apps.cli.stages import stages
    from edge.errors import UsageError
    from quant.recipe import load_recipe
    from quant.subject import open_subject
    from quant.verifying import verify_round_trip

    if recipe and source is None:
        raise UsageError("making it again needs the model it was made from: give --source")
    with stages() as told:
        subject = open_subject(artifact, role=role)
        if subject.manifest is None:
            raise UsageError(f"{artifact} has no manifest, so there is nothing to compare it with")
        base = open_subject(source, role=role) if source else None
        wanted = load_recipe(recipe) if recipe else None
        found = verify_round_trip(subject, base, wanted, calibration=calibration, on_progress=told)
    worst = min(found.sqnr_db, key=lambda name: found.sqnr_db[name], default=None)
    facts = {
        "files": found.n_files,
        "weights": found.n_weights,
        "worst": worst,
        "worst_sqnr_db": _finite(found.sqnr_db[worst]) if worst else None,
        "same_bytes": found.same_bytes,
        "passed": found.passed,
    }
    if as_json:
        click.echo(json.dumps(facts))
    else:
        click.echo(
            f"{found.n_files} files are what the manifest says, {found.n_weights} weights read back"
        )
        if worst:
            click.echo(f"largest error: {worst}, {found.sqnr_db[worst]:.1f} dB")
        if found.same_bytes is not None:
            click.echo(f"made again: {'the same bytes' if found.same_bytes else 'OTHER BYTES'}")
    return 0 if found.passed else 1


@click.command("recipes")
@click.argument("name", required=False)
@json_option
def recipes(name: str | None, as_json: bool) -> None:
    """List the built-in recipes; with NAME print one, to start your own from."""
    from quant import recipe as module

    if name:
        module.load_recipe(name)
        path = Path(str(module.__file__)).with_name("recipes") / f"{name}.toml"
        click.echo((path if path.is_file() else Path(name)).read_text("utf-8"))
        return
    found = [module.load_recipe(each) for each in module.BUILT_IN]
    if as_json:
        click.echo(
            json.dumps([{"name": r.name, "about": r.about, "gates": r.gates} for r in found])
        )
        return
    for each in found:
        click.echo(f"{each.name:<12} {each.about}")


def parse_size(text: str) -> int:
    """Bytes of a size such as 90MB. Raises UsageError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        from edge.errors import UsageError

        raise UsageError(f"{text!r} is no size; write it like 90MB or 4.2GB")
    return int(float(match[1]) * _UNITS[match[2]])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {k: _finite(v) if isinstance(v, float) else v for k, v in row.items()}


def _print_facts(facts: list[Facts], top: int) -> None:
    from rich.table import Table

    from apps.cli.tables import show

    table = Table(box=None, pad_edge=False)
    for column in ("numbers", "shape", "stored", "rms", "peak/rms", "zeros", "weight"):
        table.add_column(column, justify="left" if column == "weight" else "right")
    for one in sorted(facts, key=lambda f: -f.n_values)[:top]:
        table.add_row(
            f"{one.n_values:,}",
            "x".join(map(str, one.shape)),
            one.stored,
            f"{one.rms:.4f}",
            f"{one.peak:.0f}{' !' if one.outliers else ''}",
            f"{one.zero:.0%}",
            one.label,
        )
    show(f"{len(facts)} weights, {sum(f.n_values for f in facts):,} numbers", table)
    if top < len(facts):
        click.echo(f"the {top} largest; all with --top {len(facts)}")
    if any(one.outliers for one in facts):
        from quant.inspect import OUTLIER

        click.echo(f"! a value beyond {OUTLIER:g} times rms, which costs the others precision")


def _print_plan(found: list[Forecast], choice: Forecast | None, device: str | None) -> None:
    from rich.table import Table

    from apps.cli.tables import show
    from edge.store import size_text

    table = Table(box=None, pad_edge=False)
    timed = ["takes"] if device else []
    for column in ("recipe", "files", "bits/weight", "memory", "a frame reads", *timed, "SQNR", ""):
        table.add_column(column, justify="left" if column in ("recipe", "") else "right")
    for one in found:
        table.add_row(
            one.recipe,
            size_text(one.size_bytes),
            f"{one.bits_per_weight:.2f}",
            size_text(one.peak_ram_bytes),
            size_text(one.frame_bytes),
            *([] if one.frame_ms is None else [f"{one.frame_ms:.1f} ms"]),
            "exact" if math.isinf(one.mean_db) else f"{one.mean_db:.1f} dB",
            "<- take" if one is choice else "fits" if one.fits else one.why,
        )
    show("dry run: nothing was written", table)
    for one in found:
        if math.isfinite(one.worst_db):
            click.echo(f"{one.recipe}: largest error {one.worst_db:.1f} dB in {one.worst}")
    if device:
        from quant.planning import assumed

        click.echo(assumed(device))
    if choice is None:
        click.echo("no recipe meets the target; `edge quantize search` may find a mix")
