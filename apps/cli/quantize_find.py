"""`edge quantize search`: the best mix of precisions under a size, or as good as a uniform file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apps.cli.options import json_option
from apps.cli.quantize import artifact_argument, role_option

if TYPE_CHECKING:
    from apps.cli.stages import OnProgress
    from quant.front import Picture
    from quant.measure.speech import Speech
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
    "--by", type=click.Choice(["weights", "sound"]), default="weights", show_default=True,
    help="What damage is measured in; sound is for a codec: its codes, and the sound of codes.",
)  # fmt: skip
@click.option(
    "--speech", type=click.Path(path_type=Path), metavar="DIR",
    help="Clips to run a codec on, with --by sound; otherwise a sound of ours.",
)  # fmt: skip
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
    A codec's mix is then made whole and run beside the uniform file.
    """
    from apps.cli.stages import stages
    from edge.atomic import write_text
    from edge.errors import UsageError
    from edge.store import size_text
    from quant.front import page
    from quant.measure.speech import read_speech
    from quant.mixes import as_recipe
    from quant.search import MOST_CLIPS
    from quant.subject import open_subject

    if (given["target_size"] is None) == (given["than"] is None):
        raise UsageError("say how small with --target-size SIZE, or how good with --than PRECISION")
    if given["speech"] is not None and given["by"] != "sound":
        raise UsageError("--speech is heard with --by sound only")
    speech = None
    if given["speech"] is not None:
        speech = read_speech(given["speech"], limit=MOST_CLIPS)
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
    from edge.errors import UsageError
    from quant.front import Picture
    from quant.mixes import Mixes, uniforms
    from quant.rounded_codec import RoundedCodec
    from quant.search import YARDSTICK, as_good_as, check, sound_of, uniform_of, weigh

    codec = None
    if given["by"] == "sound":
        if subject.section != "mimi":
            raise UsageError(f"{subject.path} is no codec; it is weighed --by weights")
        told("running the float codec", 0, 1)
        codec = RoundedCodec(subject, sound_of(speech))
    weighed = weigh(subject, codec, on_progress=told)
    alike = uniforms(weighed)
    than = None
    if given["than"] or codec:
        than = uniform_of(weighed, given["than"] or YARDSTICK)
    mixes = Mixes(weighed, than.damages if than else None)
    if given["than"] and than:
        found, checked = as_good_as(weighed, than, codec, on_progress=told)
    else:
        found = mixes.of_size(parse_size(given["target_size"]))
        checked = check(found, than, codec) if codec and than else None
    return Picture(mixes, found, alike, than, checked)


def _told(shown: Picture, out: Path) -> dict[str, Any]:
    return {
        "recipe": str(out),
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
