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
@json_option
def search(
    artifact: Path, role: str | None, target_size: str, by: str, out: Path, as_json: bool
) -> None:
    """Find what each weight of ARTIFACT should become, and write that as a recipe.

    Every weight is rounded alone to see what it does; then bytes are taken where they hurt least.
    """
    from apps.cli.quantize_look import parse_size
    from apps.cli.stages import stages
    from edge.atomic import write_text
    from edge.store import size_text
    from quant.search import as_recipe, options_of, solve
    from quant.subject import open_subject

    with stages() as told:
        subject = open_subject(artifact, role=role)
        options = options_of(subject, by="sound" if by == "sound" else "weights", on_progress=told)
    found = solve(options, parse_size(target_size))
    write_text(out, as_recipe(found, subject.section, out.stem))
    if as_json:
        click.echo(json.dumps({"recipe": str(out), **asdict(found)}))
        return
    every = max(1, len(found.front) // 12)
    for point in [*found.front[::every], found.front[-1]]:
        click.echo(f"{size_text(point.size_bytes):>10}  damage {point.damage:.3g}")
    click.echo(f"{out}: {size_text(found.size_bytes)}, damage {found.damage:.3g}")
