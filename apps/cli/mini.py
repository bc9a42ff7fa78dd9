"""`edge mini`: make the miniature from nothing, stage by stage, and say how good it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apps.cli.options import json_option

if TYPE_CHECKING:
    from export.mini.workshop import Workshop

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_TOLD_EVERY = 100

folder_option = click.option(
    "--folder", type=_FOLDER, metavar="DIR", help="Where runs live; the user's cache by default."
)
device_option = click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
stage_option = click.option(
    "--stage", type=click.Choice(["core", "home", "all"]), default="core", show_default=True,
    help="core: 20 intents; home: about a hundred; all: every one of them.",
)  # fmt: skip
minutes_option = click.option(
    "--minutes", type=float, default=60.0, show_default=True, help="Stop after so long."
)
finish_option = click.option(
    "--finish", type=click.IntRange(0), default=0, metavar="STEPS",
    help="Instead: let the learning rate fall over so many steps, on a copy that can be used.",
)  # fmt: skip
seed_option = click.option(
    "--seed", type=click.IntRange(0), help="A run of its own with another seed, to compare."
)


@click.group()
def mini() -> None:
    """Make, train, pack and examine the miniature duplex model.

    Every command goes on from what lies in the user's cache folder; training stopped at any moment
    loses at most a minute. In order: data, codec, codec --finish, lm, lm --finish, package, eval.
    """


@mini.command()
@folder_option
@stage_option
@click.option("--shards", type=click.IntRange(0), default=6, show_default=True)
@click.option("--clips", type=click.IntRange(1), default=600, show_default=True)
@json_option
def data(folder: Path | None, stage: str, shards: int, clips: int, as_json: bool) -> None:
    """Speak the training data: sentences for the codec, questions and answers for the model."""
    from export.mini.voices import installed
    from export.mini.workshop import make_data, open_workshop

    shop = open_workshop(folder)
    make_data(shop, stage, shards, clips, _counter)
    _say({"folder": str(shop.folder), "voices": [s.name for s in installed()]}, as_json)


@mini.command()
@folder_option
@device_option
@minutes_option
@stage_option
@finish_option
@seed_option
@click.option("--decoder", is_flag=True, help="Train only the finished codec's decoder further.")
@json_option
def codec(
    folder: Path | None,
    device: str,
    minutes: float,
    stage: str,
    finish: int,
    seed: int | None,
    decoder: bool,
    as_json: bool,
) -> None:
    """Train the codec: on from where it stands, for a while."""
    from export.mini.curves import draw_curves, told
    from export.mini.workshop import codec_recipe, codec_trainer, decoder_trainer

    shop, recipe = _proof_of(folder, seed), codec_recipe()
    recipe = recipe if seed is None else replace(recipe, seed=seed)
    trainer = (
        decoder_trainer(shop, stage, device, _counter("codes"))
        if decoder
        else codec_trainer(shop, recipe, device)
    )
    if finish:
        _refuse_finished_proof(shop)
        out = shop.codec_shipped if decoder else shop.codec_frozen
        trainer.finish(finish, out, _teller())
    else:
        trainer.train(1 << 40, _teller(), minutes=minutes)
    name = ("decoder" if decoder else "codec") + shop.proof
    picture = shop.folder / f"{name}.png"
    draw_curves(trainer.state, picture, name)
    _say({**told(trainer.state), "picture": str(picture)}, as_json)


@mini.command()
@folder_option
@device_option
@stage_option
@minutes_option
@finish_option
@seed_option
@click.option(
    "--conversations", type=click.IntRange(0), help="A proof of its own on so many different ones."
)
@click.option(
    "--from",
    "earlier",
    type=(_FILE, _FILE),
    metavar="RUN TOKENIZER",
    help="Start a new run from an earlier one; it may have had another tokenizer.",
)
@json_option
def lm(
    folder: Path | None,
    device: str,
    stage: str,
    minutes: float,
    finish: int,
    seed: int | None,
    conversations: int | None,
    earlier: tuple[Path, Path] | None,
    as_json: bool,
) -> None:
    """Train the multistream model on the finished codec's codes."""
    from export.mini.curves import draw_curves, told
    from export.mini.workshop import Earlier, lm_recipe, lm_trainer

    shop, recipe = _proof_of(folder, seed, conversations), replace(lm_recipe(), stage=stage)
    recipe = recipe if seed is None else replace(recipe, seed=seed)
    if conversations is not None:
        recipe = replace(recipe, n_conversations=conversations)
    start = Earlier(*earlier) if earlier else None
    trainer = lm_trainer(shop, recipe, device, _counter("codes"), start)
    if finish:
        _refuse_finished_proof(shop)
        trainer.finish(finish, shop.lm_finished(stage), _teller())
    else:
        trainer.train(1 << 40, _teller(), minutes=minutes)
    picture = shop.folder / f"lm-{stage}{shop.proof}.png"
    draw_curves(trainer.state, picture, f"multistream model, {stage}")
    _say({**told(trainer.state), "picture": str(picture)}, as_json)


@mini.command()
@folder_option
@stage_option
@click.option("--out", type=_FOLDER, required=True, metavar="DIR", help="The artifact to write.")
@click.option(
    "--float", "as_float", is_flag=True, help="Leave the weights as trained, not in 8 bit."
)
@json_option
def package(folder: Path | None, stage: str, out: Path, as_float: bool, as_json: bool) -> None:
    """Export the finished checkpoints into an artifact for `edge talk --engine duplex --model`."""
    from apps.mini import pack
    from export.mini.workshop import open_workshop

    _say(pack(open_workshop(folder), stage, out, as_float=as_float), as_json)


@mini.command("eval")
@folder_option
@stage_option
@click.option("--model", type=_FOLDER, metavar="DIR", help="An artifact; the shipped one if none.")
@click.option(
    "--speech", type=_FOLDER, metavar="DIR", help="Real recordings with a manifest.tsv, besides."
)
@click.option("--each", type=click.IntRange(1), default=60, show_default=True,
              help="Questions of each kind.")  # fmt: skip
@click.option("--sentences", type=click.IntRange(1, 50), default=50, show_default=True)
@click.option("--silence-minutes", type=float, default=5.0, show_default=True)
@click.option("--damage/--no-damage", default=True, show_default=True,
              help="Round the float checkpoints to 8, 4 and 3 bits as well.")  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Also write the JSON here."
)
@json_option
def evaluate(
    folder: Path | None,
    stage: str,
    model: Path | None,
    speech: Path | None,
    each: int,
    sentences: int,
    silence_minutes: float,
    damage: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Examine an artifact on held-out phrasings, voices and noises, and print the table."""
    from apps.mini import Extent, examine, table_of
    from edge.atomic import write_text
    from export.mini.workshop import open_workshop

    extent = Extent(each, sentences, silence_minutes, damage)
    report = examine(open_workshop(folder), stage, model, speech, extent, _staged)
    if out is not None:
        write_text(out, json.dumps(report, indent=1))
    if as_json:
        click.echo(json.dumps(report))
        return
    from rich.console import Console

    Console().print(table_of(report))


def _proof_of(folder: Path | None, seed: int | None, conversations: int | None = None) -> Workshop:
    """The workshop, with runs of their own for another seed or for few conversations."""
    from export.mini.workshop import one_thread, open_workshop

    one_thread()
    few = "" if conversations is None else f"-{conversations}"
    return replace(open_workshop(folder), proof=few + ("" if seed is None else f"-seed{seed}"))


def _refuse_finished_proof(shop: Workshop) -> None:
    if shop.proof:
        raise click.UsageError("--finish is for the run that is shipped: no --seed, no few.")


def _say(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(report))
        return
    for name, value in report.items():
        click.echo(f"{name}: {value}")


def _counter(name: str) -> Callable[[int, int], None]:
    """Lines on standard error, one every hundred."""

    def at(done: int, total: int) -> None:
        if done % _TOLD_EVERY == 0 or done == total:
            click.echo(f"{name}: {done} of {total}", err=True)

    return at


def _staged(name: str, done: int, total: int) -> None:
    if done % 20 == 0 or done == total:
        click.echo(f"{name}: {done} of {total}", err=True)


def _teller() -> Callable[[dict[str, float]], None]:
    """A line on standard error every hundred steps."""

    def at(row: dict[str, float]) -> None:
        if int(row["step"]) % _TOLD_EVERY == 0:
            shown = " ".join(
                f"{name} {value:.3f}"
                for name, value in row.items()
                if name not in ("step", "wall_s", "gradient", "rate")
            )
            click.echo(f"step {row['step']:.0f}, {row['wall_s'] / 60:.1f} min: {shown}", err=True)

    return at
