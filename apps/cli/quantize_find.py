"""`edge quantize search`: the best mix of precisions under a size."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from apps.cli.options import json_option
from apps.cli.quantize import artifact_argument, role_option


@click.command("search")
@artifact_argument
@role_option
@click.option("--target-size", required=True, metavar="SIZE", help="Of the weights, such as 60MB.")
@click.option(
    "--by", type=click.Choice(["weights", "sound"]), default="weights", show_default=True,
    help="What damage is measured in; sound is for a codec's decoder.",
)  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The recipe."
)
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="A page with the picture of every mix on the way, .html.",
)  # fmt: skip
@json_option
def search(
    artifact: Path, role: str | None, target_size: str, by: str, out: Path, report: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Find what each weight of ARTIFACT should become, and write that as a recipe.

    Every weight is rounded alone to see what it does; then bytes are taken where they hurt least.
    """
    from apps.cli.quantize_look import parse_size
    from apps.cli.stages import stages
    from edge.atomic import write_text
    from edge.store import size_text
    from quant.front import page, uniforms
    from quant.search import as_recipe, options_of, solve
    from quant.subject import open_subject

    with stages() as told:
        subject = open_subject(artifact, role=role)
        options = options_of(subject, by="sound" if by == "sound" else "weights", on_progress=told)
    found = solve(options, parse_size(target_size))
    write_text(out, as_recipe(found, subject.section, out.stem))
    alike = uniforms(options)
    if report is not None:
        write_text(report, page(f"Mixes of {artifact.resolve().name}", found, alike))
    if as_json:
        uniform = [asdict(one) for one in alike]
        click.echo(json.dumps({"recipe": str(out), **asdict(found), "uniform": uniform}))
        return
    every = max(1, len(found.front) // 12)
    for point in [*found.front[::every], found.front[-1]]:
        click.echo(f"{size_text(point.size_bytes):>10}  damage {point.damage:.3g}")
    for one in alike:
        click.echo(f"{size_text(one.size_bytes):>10}  damage {one.damage:.3g}  all {one.precision}")
    click.echo(f"{out}: {size_text(found.size_bytes)}, damage {found.damage:.3g}")
