"""`edge measure`: what a smaller model does to sound, against the float model it was made from."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apps.cli.lazy import Lazy
from apps.cli.options import json_option, untrained_option
from apps.cli.quantize import RunByDefault

if TYPE_CHECKING:
    from apps.cli.stages import OnProgress

COMMANDS = {
    "run": Lazy("apps.cli.measure:run", "Measure CANDIDATE (also without the word run)."),
    "compare": Lazy("apps.cli.measure_compare:compare", "Two reports, or one and a baseline."),
}
EXIT_CODES = {"pass": 0, "fail": 1, "inconclusive": 3}


@click.group(cls=RunByDefault, table=COMMANDS)
def measure() -> None:
    """Hold a smaller model, or a folder of sounds, against what it was made from."""


@click.command("run")
@click.argument("reference", type=click.Path(path_type=Path))
@click.argument("candidate", type=click.Path(path_type=Path))
@click.option(
    "--speech", type=click.Path(path_type=Path), metavar="DIR",
    help="Clips with a manifest.tsv: file, speaker, transcript. For a voice: a file of sentences.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="For the report.")
@click.option("--role", metavar="ROLE", help="What another maker's file does: tts, asr or codec.")
@click.option("--gates", metavar="NAME", help="transparent or compact; default: the recipe's own.")
@click.option(
    "--margins", type=click.Path(path_type=Path), metavar="FILE", help="Margins in TOML instead."
)
@click.option("--limit", type=click.IntRange(1), help="Only so many utterances.")
@click.option("--workers", type=click.IntRange(1), help="Processes; default: one a core.")
@click.option(
    "--without", default="", metavar="NAMES",
    help="Waive metrics, and say so: pesq,estoi,visqol,dnsmos,plcmos,speaker,words.",
)  # fmt: skip
@untrained_option
@click.option("--timed/--not-timed", default=True, help="Time and memory of both.")
@click.option(
    "--with", "others", type=click.Path(path_type=Path), multiple=True, metavar="REPORT",
    help="Earlier reports for the picture of size and quality.",
)  # fmt: skip
@click.option(
    "--codec", type=click.Path(path_type=Path), metavar="DIR",
    help="Encodes the speech for a multistream model; without it its user says nothing real.",
)  # fmt: skip
@json_option
def run(**given: Any) -> int:
    """Measure CANDIDATE against REFERENCE: weights, tokens, sound, words, speed.

    Exit code 0: it passes every gate; 1: it fails one; 3: inconclusive, for there is too little
    evidence or a gate's metric was not measured. What is waived with --without does not count.
    """
    from apps.cli.stages import stages

    with stages() as told:
        result = _measure(given, told)
    out, as_json = given["out"], given["as_json"]
    if as_json:
        from quant.measure.result import to_json

        click.echo(json.dumps(json.loads(to_json(result))))
    else:
        from quant.measure.report import markdown

        click.echo(markdown(result))
        if out:
            click.echo(f"{out / 'report.html'}: to be listened to", err=True)
    return EXIT_CODES[result["verdict"]]


def _measure(given: dict[str, Any], told: OnProgress) -> dict[str, Any]:
    from edge.outputs import check_new_folder
    from quant.measure.ears import Options
    from quant.measure.gates import load_margins
    from quant.measure.kinds import measure_any
    from quant.measure.report import write_report
    from quant.measure.result import read_result
    from quant.measure.run import Plan
    from quant.recipe import BUILT_IN, load_recipe
    from quant.subject import open_subject
    from runtime.cores import available_cores

    began_s = time.monotonic()
    reference, candidate, out = given["reference"], given["candidate"], given["out"]
    others = [read_result(path) for path in given["others"]]
    if out:
        check_new_folder(out)
    sounds = reference.is_dir() and not (reference / "manifest.toml").is_file()
    models = None
    gates = given["gates"] or "transparent"
    if not sounds:
        told("opening both", 0, 1)
        models = tuple(open_subject(path, role=given["role"]) for path in (reference, candidate))
        told("opening both", 1, 1)
        if given["gates"] is None and models[1].recipe in BUILT_IN:
            gates = load_recipe(models[1].recipe).gates
    plan = Plan(
        margins=load_margins(gates, given["margins"]),
        options=Options(waived_metrics(given["without"])),
        n_workers=given["workers"] or available_cores(),
        untrained=given["untrained"],
        timed=given["timed"],
    )
    result, rows = measure_any(
        models, (reference, candidate), plan, speech=given["speech"], limit=given["limit"],
        codec=given["codec"], on_progress=told,
    )  # fmt: skip
    result["gates_name"] = gates
    result["took"] = {
        "wall_s": round(time.monotonic() - began_s, 1), "processes": plan.n_workers,
    }  # fmt: skip
    if out:
        out.mkdir(parents=True, exist_ok=True)
        write_report(out, result, rows, others)
    return result


def waived_metrics(text: str) -> tuple[str, ...]:
    """Names of metrics to do without. Raises UsageError for one that there is not."""
    from edge.errors import UsageError
    from quant.measure.ears import WAIVABLE

    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in WAIVABLE]
    if unknown:
        raise UsageError(f"unknown metric {unknown[0]!r}; known are {', '.join(WAIVABLE)}")
    return names
