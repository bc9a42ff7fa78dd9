"""`edge measure compare`: two reports side by side; a regression is an error."""

from __future__ import annotations

import json
from pathlib import Path

import click

from apps.cli.options import json_option


@click.command("compare")
@click.argument("baseline", type=click.Path(path_type=Path))
@click.argument("candidate", type=click.Path(path_type=Path))
@click.option(
    "--margin", type=click.FloatRange(0), default=1.0, show_default=True,
    help="Of the gates' own distance from their hard limits, in tenths, that may be lost.",
)  # fmt: skip
@json_option
def compare(baseline: Path, candidate: Path, margin: float, as_json: bool) -> int:
    """Compare two reports of the same reference on the same speech.

    Exit code 1 where CANDIDATE is worse than BASELINE by more than the margin in any metric that
    has a gate, so that a committed baseline keeps a model from getting worse unseen.
    """
    from quant.measure.compare import compare_results
    from quant.measure.report import NAMES
    from quant.measure.result import read_result, to_json

    found = compare_results(read_result(baseline), read_result(candidate), tenths=margin)
    if as_json:
        click.echo(json.dumps(json.loads(to_json(found))))
    else:
        for row in found["metrics"]:
            click.echo(
                f"{NAMES.get(row['metric'], row['metric']):<45} {row['baseline']:>9.4g} "
                f"{row['candidate']:>9.4g}  {row['said']}"
            )
        click.echo(f"verdict: {found['verdict']}")
    return {"pass": 0, "fail": 1}.get(found["verdict"], 3)
