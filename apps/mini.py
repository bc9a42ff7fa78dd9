"""The work of `edge mini package` and `edge mini eval`, and where the shipped miniature lies."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.errors import ModelMissingError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from export.mini.bank import Bank
    from export.mini.package import Parts
    from export.mini.workshop import Workshop

Told = Callable[[str, int, int], None]

_DAMAGED_SOUNDS = 8
SHIPPED = Path(__file__).parent / "assets" / "miniature"


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is examined. each: questions of each kind."""

    each: int
    sentences: int
    silence_minutes: float
    damage: bool = True


def shipped_model() -> Path:
    """The artifact in this installation. Raises ModelMissingError."""
    if not (SHIPPED / "manifest.toml").is_file():
        raise ModelMissingError(
            "this installation lacks the miniature; give a model with --model DIR, "
            "made by `edge export moshi` or `edge mini package`"
        )
    return SHIPPED


def pack(shop: Workshop, stage: str, out: Path, *, as_float: bool) -> dict[str, Any]:
    """Export the finished checkpoints, in 8 bit unless as_float; returns what was made.

    Raises UsageError where out holds something, ModelMissingError for an unfinished stage.
    """
    from export.mini.package import CODEC_FOLDER, write_artifact
    from export.mini.workshop import codec_recipe, lm_recipe
    from quant.recipe import load_recipe
    from quant.run import quantize
    from quant.subject import open_subject

    parts = _parts(shop, stage)
    for path, how in ((parts.codec, "codec --finish 300"), (parts.lm, "lm --finish 200")):
        if not path.is_file():
            raise ModelMissingError(f"{path}: not finished yet; run: edge mini {how}")
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out}: exists already; choose another --out or remove it")
    with tempfile.TemporaryDirectory(prefix="edge-mini-", dir=shop.folder) as name:
        whole = write_artifact(parts, codec_recipe(), lm_recipe(), Path(name) / "float")
        if as_float:
            shutil.copytree(whole, out)
        else:
            quantize(open_subject(whole), load_recipe("int8"), out)
            quantize(
                open_subject(whole / CODEC_FOLDER), load_recipe("transparent"), out / CODEC_FOLDER
            )
    size_bytes = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return {"artifact": str(out), "precision": "float" if as_float else "int8",
            "size_bytes": size_bytes}  # fmt: skip


def examine(
    shop: Workshop, stage: str, model: Path | None, speech: Path | None, extent: Extent, told: Told
) -> dict[str, Any]:
    """Run every examination on an artifact."""
    from export.mini import evaluate, examine
    from export.mini.bank import open_sound
    from export.mini.corpus import load_studio
    from runtime.engines.duplex import DuplexOptions, open_duplex

    folder = model or shipped_model()
    engine = open_duplex(folder, threads=1, options=DuplexOptions(greedy=True))
    judge = evaluate.Judge()
    report: dict[str, Any] = {"model": str(folder), "stage": stage}
    report["codec"] = evaluate.codec_report(
        engine.codec, load_studio(), judge, speech, told, n_sentences=extent.sentences
    )
    bank = open_sound(shop.bank(stage))
    report["answers"] = examine.answers_report(engine, bank, judge, told, n_each=extent.each)
    report["follow_ups"] = examine.follow_up_report(engine, bank, told)
    report["interruptions"] = examine.interruption_report(engine, bank, told)
    report["silence"] = examine.silence_report(engine, told, minutes=extent.silence_minutes)
    report["step_ms"] = examine.step_report(engine)
    if extent.damage:
        report["damage"] = _damage(shop, stage, bank, told)
    return report


def _damage(shop: Workshop, stage: str, bank: Bank, told: Told) -> dict[str, Any]:
    """What rounding does to the finished checkpoints; unmeasured where they are not here."""
    from apps.mini_damage import damage_report
    from export.mini.package import write_artifact
    from export.mini.workshop import codec_recipe, lm_recipe

    parts = _parts(shop, stage)
    if not (parts.codec.is_file() and parts.lm.is_file()):
        return {"unmeasured": "the float checkpoints are not in the workshop's folder"}
    sounds = [bank.sound_of(u) for u in bank.of("ask", "new phrasing")[:_DAMAGED_SOUNDS]]
    with tempfile.TemporaryDirectory(prefix="edge-mini-", dir=shop.folder) as name:
        whole = write_artifact(parts, codec_recipe(), lm_recipe(), Path(name) / "float")
        return damage_report(whole, sounds, told)


def _parts(shop: Workshop, stage: str) -> Parts:
    from export.mini.package import Parts

    return Parts(shop.codec_best, shop.lm_finished(stage), shop.pieces)


def table_of(report: dict[str, Any]) -> Table:
    """The figures beside what is to be reached."""
    from rich.table import Table

    codec, answers = report["codec"], report["answers"]
    table = Table(title=f"The miniature ({report['stage']} intents)")
    for column in ("figure", "measured", "to reach"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    own = codec["own"]
    more = 100 * (own["wer"] - own["wer_of_original"])
    rows = [
        ("codec, the assistant's voice: ESTOI", f"{own['estoi']:.2f}", ">= 0.75"),
        ("  word errors beyond the original", f"{more:.0f} points", "<= 15"),
        ("codec, other voices seen / unseen: ESTOI",
         f"{codec['seen']['estoi']:.2f} / {codec['unseen']['estoi']:.2f}", ">= 0.65 / 0.50"),
        ("least code entropy of a codebook", f"{100 * min(codec['code_entropy_share']):.0f} %",
         "> 75 %"),
    ]  # fmt: skip
    if "real" in codec:
        real = codec["real"]
        plain = 100 * real["wer_of_original"]
        figure = f"{real['estoi']:.2f}, {100 * real['wer']:.0f} % ({plain:.0f} %)"
        rows.insert(3, ("codec, real speech: ESTOI, word errors (original)", figure, "-"))
    wanted = {"new phrasing": ">= 90 %", "new phrasing and voice": ">= 70 %"}
    for split, result in answers.items():
        if isinstance(result, dict):
            figure = f"{100 * result['right_by_text']:.0f} / {100 * result['right_by_sound']:.0f} %"
            name = f"right answers, {split}: by text / by sound"
            rows.append((name, figure, wanted.get(split, "-")))
    stop = report["interruptions"]["stops_after_ms_p50"]
    rows += [
        ("reply's sound against its inner text: word errors",
         f"{100 * answers['reply_wer_to_inner_text']:.0f} %", "<= 20 %"),
        ("reply starts after, median", _ms(answers["starts_after_ms_p50"]), "<= 400 ms"),
        ("stops after an interruption, median", _ms(stop), "<= 400 ms"),
        *_follow_ups(report.get("follow_ups", {})),
        (f"false starts in {report['silence']['minutes']:.0f} silent or noisy minutes",
         str(report["silence"]["false_starts"]), "< 1"),
        ("step p99", f"{report['step_ms']['p99']:.1f} ms", "<= 40 ms"),
        *_damaged(report.get("damage", {})),
    ]  # fmt: skip
    for row in rows:
        table.add_row(*row)
    return table


Rows = list[tuple[str, str, str]]


def _follow_ups(found: dict[str, Any]) -> Rows:
    names = {"again": '"say that again"', "recall": '"what did I just say"'}
    return [
        (f"{names[key]} right, of {row['n']}", f"{100 * row['right_by_text']:.0f} %", "-")
        for key, row in found.items()
        if row["n"]
    ]


def _damaged(found: dict[str, Any]) -> Rows:
    if "rungs" not in found:
        return []
    rows = [
        (f"rounded to {rung}: wave SNR, log-mel, codes equal, text KL", _rung(row), "-")
        for rung, row in found["rungs"].items()
    ]
    ordered = "yes" if all(found["monotone"].values()) else "no"
    return [*rows, ("damage grows with every rung", ordered, "yes")]


def _rung(row: dict[str, float]) -> str:
    sound = f"{row['wave_snr_db']:.1f} dB, {row['log_mel']:.3f}"
    return f"{sound}, {100 * row['codes_equal']:.0f} %, {row['text_kl']:.5f}"


def _ms(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f} ms"
