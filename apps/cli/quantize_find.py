"""`edge quantize search`: the best mix of precisions under a size, or as good as a uniform file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apps.cli.options import json_option, untrained_option
from apps.cli.quantize import artifact_argument, role_option

if TYPE_CHECKING:
    from apps.cli.stages import OnProgress
    from quant.front import Picture
    from quant.measure.speech import Speech
    from quant.search import Rounded
    from quant.subject import Subject


@click.command("search")
@artifact_argument
@role_option
@click.option("--target-size", metavar="SIZE", help="Of the weights, such as 60MB.")
@click.option(
    "--than", metavar="PRECISION",
    help="Instead of a size: no more damage than every weight in PRECISION does, such as w8a16.",
)  # fmt: skip
@click.option(
    "--by", type=click.Choice(["weights", "sound", "kl"]), default="weights", show_default=True,
    help="What damage is measured in; sound is for a codec: its codes, and the sound of codes; kl "
    "for a small multistream model: how far off it draws text and codes.",
)  # fmt: skip
@click.option(
    "--speech", type=click.Path(path_type=Path), metavar="DIR",
    help="Clips to run the model on, with --by sound or kl; otherwise a sound of ours, or random "
    "codes.",
)  # fmt: skip
@click.option(
    "--codec", type=click.Path(path_type=Path), metavar="DIR",
    help="With --by kl: encodes the speech; default: the one in ARTIFACT's folder or beside it.",
)  # fmt: skip
@untrained_option
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The recipe."
)
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="A page with the picture of every mix on the way, .html.",
)  # fmt: skip
@json_option
def search(**given: Any) -> None:
    """Find what each weight of ARTIFACT should become, and write that as a recipe.

    Every weight is rounded alone to see what it does; then bytes are taken where they hurt least.
    With --by sound or kl the mix is then made whole and run beside the uniform file.
    """
    from apps.cli.stages import stages
    from edge.atomic import write_text
    from edge.errors import UsageError
    from edge.store import size_text
    from quant.front import page
    from quant.measure.speech import read_speech
    from quant.mixes import as_recipe
    from quant.search import MOST_CLIPS, MOST_TALKS
    from quant.subject import open_subject

    if (given["target_size"] is None) == (given["than"] is None):
        raise UsageError("say how small with --target-size SIZE, or how good with --than PRECISION")
    if given["speech"] is not None and given["by"] == "weights":
        raise UsageError("--speech is heard with --by sound or --by kl only")
    speech = None
    if given["speech"] is not None:
        most = MOST_CLIPS if given["by"] == "sound" else MOST_TALKS
        speech = read_speech(given["speech"], limit=most)
    with stages() as told:
        subject = open_subject(given["artifact"], role=given["role"])
        shown = _searched(subject, given, speech, told)
    found, out = shown.found, given["out"]
    clips = {one.sha256: one.name for one in speech.utterances} if speech else {}
    write_text(out, as_recipe(found, subject.section, out.stem, clips))
    if given["report"] is not None:
        title = f"Mixes of {given['artifact'].resolve().name}"
        write_text(given["report"], page(title, shown))
    if given["as_json"]:
        click.echo(json.dumps(_told(shown, out)))
        return
    for label in shown.labels:
        click.echo(label)
    front = shown.mixes.front()
    for point in [*front[:: max(1, len(front) // 12)], front[-1]]:
        click.echo(f"{size_text(point.size_bytes):>10}  {_damage(point.damages)}")
    for one in shown.uniform:
        click.echo(f"{size_text(one.size_bytes):>10}  {_damage(one.damages)}  all {one.precision}")
    click.echo(f"{out}: {size_text(found.size_bytes)}, {_damage(found.damages)}")
    if shown.checked and shown.than:
        now = shown.checked
        click.echo(
            f"run as files: {size_text(now.file_bytes)}, {_damage(now.damages)}; all "
            f"{shown.than.precision} {size_text(now.uniform_file_bytes)}, "
            f"{_damage(now.uniform_damages)}"
        )


def _searched(
    subject: Subject, given: dict[str, Any], speech: Speech | None, told: OnProgress
) -> Picture:
    from apps.cli.quantize_look import parse_size
    from quant.front import Picture
    from quant.mixes import Mixes, uniforms
    from quant.search import YARDSTICK, as_good_as, check, uniform_of, weigh

    by = given["by"]
    model = _run_by(subject, given, speech, told) if by in YARDSTICK else None
    weighed = weigh(subject, model, on_progress=told)
    alike = uniforms(weighed)
    than = None
    if given["than"] or model:
        than = uniform_of(weighed, given["than"] or YARDSTICK[by])
    mixes = Mixes(weighed, than.damages if than else None)
    if given["than"] and than:
        found, checked = as_good_as(weighed, than, model, on_progress=told)
    else:
        found = mixes.of_size(parse_size(given["target_size"]))
        checked = check(found, than, model) if model and than else None
    return Picture(mixes, found, alike, than, checked, _labels(given, speech))


def _run_by(
    subject: Subject, given: dict[str, Any], speech: Speech | None, told: OnProgress
) -> Rounded:
    """The float model, run on what the forms are to be run on."""
    from edge.errors import UsageError
    from quant.rounded_codec import RoundedCodec
    from quant.rounded_streams import RoundedStreams
    from quant.search import sound_of, talks_of

    wanted, name = ("mimi", "codec") if given["by"] == "sound" else ("moshi", "multistream model")
    if subject.section != wanted:
        raise UsageError(f"{subject.path} is no {name}; it is not weighed --by {given['by']}")
    told("running the float model", 0, 1)
    if wanted == "mimi":
        return RoundedCodec(subject, sound_of(speech))
    return RoundedStreams(subject, talks_of(subject, speech, given["codec"]))


def _labels(given: dict[str, Any], speech: Speech | None) -> list[str]:
    """What the figures cannot show."""
    from quant.measure.speech import SYNTHETIC, UNTRAINED

    said = [UNTRAINED] if given["untrained"] else []
    if speech and speech.synthetic:
        said.append(SYNTHETIC)
    if given["by"] == "kl" and speech is None:
        said.append("the user's codes are random: they are no speech")
    return said


def _told(shown: Picture, out: Path) -> dict[str, Any]:
    return {
        "recipe": str(out),
        "labels": list(shown.labels),
        **asdict(shown.found),
        "front": [asdict(point) for point in shown.mixes.front()],
        "uniform": [
            {"precision": one.precision, "size_bytes": one.size_bytes, "damages": one.damages}
            for one in shown.uniform
        ],
        "than": shown.than.precision if shown.than else None,
        "run": asdict(shown.checked) if shown.checked else None,
    }


def _damage(damages: dict[str, float] | Any) -> str:
    return ", ".join(f"{kind} {value:.3g}" for kind, value in damages.items())
