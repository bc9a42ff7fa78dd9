"""`edge sweep`: many recipes over the same speech, one report each and one table of all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apps.cli.options import json_option, untrained_option
from apps.cli.quantize import role_option

if TYPE_CHECKING:
    from apps.cli.stages import OnProgress


@click.command("sweep")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...")
@role_option
@click.option("--speech", type=click.Path(path_type=Path), metavar="DIR", help="As for measure.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="DIR",
    help="Models and reports, a folder for each recipe; what is there already is not made again.",
)  # fmt: skip
@click.option(
    "--scheduler", metavar="ADDRESS",
    help="Measure on a Dask cluster, such as 8786 (of this machine) or host:8786; trusted ground.",
)  # fmt: skip
@click.option(
    "--calibration", type=click.Path(path_type=Path), metavar="FILE", help="As for quantize run."
)
@click.option("--limit", type=click.IntRange(1), help="Only so many utterances.")
@click.option("--workers", type=click.IntRange(1), help="Processes; default: one a core.")
@click.option("--without", default="", metavar="NAMES", help="Metrics to waive, as for measure.")
@click.option("--gates", default="transparent", show_default=True, help="One table for all.")
@untrained_option
@click.option(
    "--codec", type=click.Path(path_type=Path), metavar="DIR",
    help="Encodes the speech for a multistream model, as for measure.",
)  # fmt: skip
@json_option
def sweep(artifact: Path, recipes: tuple[str, ...], as_json: bool, **given: Any) -> int:
    """Quantize ARTIFACT by each RECIPE and measure what comes out.

    It can be interrupted and goes on with the next call, clip by clip. With --scheduler the clips
    are measured by the workers of a Dask cluster: models and clips travel by hash, and what a lost
    worker had in hand is done by another. Whoever reaches a cluster's ports can run code on it:
    keep them on the loopback or in a network of your own.

    Exit code 0 where any recipe passes, 1 where all fail, 3 where for some there is too little
    evidence to say.
    """
    from apps.cli.measure import EXIT_CODES
    from apps.cli.stages import stages
    from quant.measure.gates import load_margins

    load_margins(given["gates"], None)  # refused before anything is made
    with stages() as told:
        rows = [_one(artifact, recipe, given, told) for recipe in recipes]
    if as_json:
        click.echo(json.dumps({"artifact": str(artifact), "recipes": rows}))
    else:
        from edge.store import size_text

        for row in sorted(rows, key=lambda row: row["size_bytes"]):
            figures = ", ".join(f"{k} {v:.4g}" for k, v in row["means"].items())
            size = size_text(row["size_bytes"])
            click.echo(f"{row['recipe']:<14}{size:>10}  {row['verdict']:<13}{figures}")
    codes = [EXIT_CODES[row["verdict"]] for row in rows]
    return next((code for code in (0, 3) if code in codes), 1)


def _one(artifact: Path, recipe: str, given: dict[str, Any], told: OnProgress) -> dict[str, Any]:
    """One recipe: made and measured, or read back where it was before."""
    from edge.errors import UsageError
    from quant.measure.result import read_result
    from quant.recipe import load_recipe
    from quant.run import quantize
    from quant.subject import open_subject

    wanted = load_recipe(recipe)
    home = given["out"] / wanted.name
    model, report = home / "model", home / "report"
    home.mkdir(parents=True, exist_ok=True)
    reference = open_subject(artifact, role=given["role"])
    if not model.is_dir():
        quantize(reference, wanted, model, calibration=given["calibration"], on_progress=told)
    candidate = open_subject(model)
    made_by = {one.sha256 for one in candidate.manifest.sources} if candidate.manifest else set()
    if wanted.sha256 not in made_by:
        raise UsageError(f"{model} was made by another recipe of that name; remove it first")
    if not (report / "report.json").is_file():
        _measure(reference, candidate, report, given, told)
    result = read_result(report)
    if result["candidate"]["fingerprint"] != candidate.fingerprint:
        raise UsageError(f"{report} is of another model; remove it first")
    means = {gate["metric"]: result["metrics"].get(gate["metric"]) for gate in result["gates"]}
    return {
        "recipe": wanted.name,
        "size_bytes": candidate.size_bytes,
        "verdict": result["verdict"],
        "means": {k: v["mean"] for k, v in means.items() if v and v["mean"] is not None},
        "report": str(report),
    }


def _measure(
    reference: Any, candidate: Any, report: Path, given: dict[str, Any], told: OnProgress
) -> None:
    from apps.cli.measure import waived_metrics
    from edge.atomic import atomic_path
    from quant.cluster import Cluster, full_address
    from quant.journal import Journal
    from quant.measure.ears import Options
    from quant.measure.gates import load_margins
    from quant.measure.kinds import measure_any
    from quant.measure.report import write_report
    from quant.measure.run import Plan
    from quant.measure.workers import Work, work
    from runtime.cores import available_cores

    here: Work = work
    if given["scheduler"]:
        here = Cluster(full_address(given["scheduler"]))
    journal = report.with_name("rows.jsonl")
    plan = Plan(
        work=Journal(here, journal, str(candidate.path)),
        margins=load_margins(given["gates"], None),
        options=Options(waived_metrics(given["without"])),
        n_workers=given["workers"] or available_cores(),
        untrained=given["untrained"],
    )
    result, rows = measure_any(
        (reference, candidate), (reference.path, candidate.path), plan, speech=given["speech"],
        limit=given["limit"], codec=given["codec"], on_progress=told,
    )  # fmt: skip
    with atomic_path(report) as folder:
        folder.mkdir()
        write_report(folder, result, rows)
    journal.unlink(missing_ok=True)
