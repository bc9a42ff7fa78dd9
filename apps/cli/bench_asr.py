"""`edge bench asr`: words wrong and processor time: of windows, or of forms of one recogniser."""

from __future__ import annotations

import csv
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from apps.cli.options import json_option
from edge.errors import UsageError
from runtime.models.text import words_wrong

WINDOWS = ("short", "full")
_DRAWS = 2_000

Way = Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Clip:
    """A spoken sentence and what is said in it."""

    name: str
    path: Path
    said: str


@click.command("asr")
@click.option(
    "--speech",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    metavar="DIR",
    help="Folder with sound files and a manifest.tsv (columns: file, transcript).",
)
@click.option(
    "--model", metavar="NAME", help="A recogniser of models.lock; default: the chosen one."
)
@click.option(
    "--artifact",
    "artifacts",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="DIR",
    help="Instead of the windows, compare artifacts of `edge export asr` with the model.",
)
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True, help="Median of N.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Also write the JSON here."
)
@json_option
def bench_asr(
    speech: Path,
    model: str | None,
    artifacts: tuple[Path, ...],
    repeat: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Recognise each file in each way in turn; count the words wrong and the processor time.

    The ways are short windows and Whisper's own 30 s, or the model and other forms of it.
    """
    from apps.bench.machine import machine
    from edge.atomic import write_text
    from edge.config import load_config
    from edge.lock import read_lock
    from edge.store import ModelStore
    from runtime.engines.speakable import load_speller, speakable
    from runtime.models.asr import Recogniser

    clips = read_manifest(speech)
    name = model or load_config().config.models.asr
    recogniser = Recogniser(ModelStore(read_lock()).files(name))
    ways = _forms(recogniser, artifacts) if artifacts else _windows(recogniser)
    speller = load_speller()
    rows = []
    for clip in clips:
        rows.append(_measured(clip, ways, repeat, lambda text: speakable(speller, text)))
        if not as_json:
            click.echo(_line(rows[-1], tuple(ways)))
    totals = summary(rows, tuple(ways))
    result = {"bench": "asr", "machine": machine(), "model": name, **totals, "files": rows}
    if out:
        write_text(out, json.dumps(result, indent=1))
    if as_json:
        click.echo(json.dumps(result))
    else:
        _table(result, tuple(ways))


def _windows(recogniser: Any) -> dict[str, Way]:
    recogniser.warm_up()
    return {
        window: lambda pcm, window=window: recogniser.transcribe(pcm, window=window).text  # type: ignore[misc]
        for window in WINDOWS
    }


def _forms(recogniser: Any, artifacts: Sequence[Path]) -> dict[str, Way]:
    """The model as it is, and artifacts by their folder's name; all with short windows."""
    from runtime.models.asr import Recogniser
    from runtime.models.whisper import WhisperGraphs

    forms = {"ctranslate2-int8": recogniser}
    for path in artifacts:
        forms[path.name] = Recogniser(WhisperGraphs(path))
    for form in forms.values():
        form.warm_up()
    return {
        name: lambda pcm, form=form: form.transcribe(pcm).text  # type: ignore[misc]
        for name, form in forms.items()
    }


def read_manifest(folder: Path) -> list[Clip]:
    """The transcribed files that folder/manifest.tsv lists. Raises UsageError."""
    path = folder / "manifest.tsv"
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
    except OSError as error:
        raise UsageError(
            f"{folder}: no manifest.tsv ({error.strerror}); it needs the columns file, transcript"
        ) from error
    clips = [
        Clip(row["file"], folder / row["file"], row["transcript"])
        for row in rows
        if row.get("file") and row.get("transcript")
    ]
    if not clips:
        raise UsageError(f"{path}: no line has both a file and a transcript")
    return clips


def words(text: str, spoken: Callable[[str], str]) -> list[str]:
    """Words to be compared: numbers as words, no capitals, no punctuation."""
    from runtime.models.asr import plain_word

    loose = spoken(text).replace("-", " ")
    return [word for word in map(plain_word, loose.split()) if word]


def summary(rows: Sequence[Mapping[str, Any]], ways: Sequence[str] = WINDOWS) -> dict[str, Any]:
    """Totals of each way: word error rate in percent with its 95 % interval, seconds.

    wer_change_points, cpu_ratio: of each way against the first, paired by file. wer_lost_points:
    what the first way loses against the last, with the interval of the paired difference; files are
    drawn again and again for it (bootstrap, seeded).
    """
    n_words = sum(row["words"] for row in rows)
    audio_s = sum(row["audio_s"] for row in rows)
    out: dict[str, Any] = {"n_files": len(rows), "words": n_words, "audio_s": round(audio_s, 2)}
    for way in ways:
        wrong = sum(row[way]["wrong"] for row in rows)
        cpu_s = sum(row[way]["cpu_ms"] for row in rows) / 1e3
        out[way] = {
            "wrong": wrong,
            "wer_percent": round(100 * wrong / n_words, 2),
            "wer_interval": _interval([(row[way]["wrong"], row["words"]) for row in rows]),
            "cpu_s": round(cpu_s, 3),
            "cpu_per_audio_s": round(cpu_s / audio_s, 4),
            "ms_median": round(statistics.median(row[way]["ms"] for row in rows), 1),
        }
    first, last = ways[0], ways[-1]
    for way in ways[1:]:
        change = [(row[way]["wrong"] - row[first]["wrong"], row["words"]) for row in rows]
        out[way]["wer_change_points"] = round(100 * sum(c for c, _ in change) / n_words, 2)
        out[way]["wer_change_interval"] = _interval(change)
        out[way]["cpu_ratio"] = round(out[way]["cpu_s"] / out[first]["cpu_s"], 2)
    lost = [(row[first]["wrong"] - row[last]["wrong"], row["words"]) for row in rows]
    out["wer_lost_points"] = round(out[first]["wer_percent"] - out[last]["wer_percent"], 2)
    out["wer_lost_interval"] = _interval(lost)
    out["cpu_ratio"] = round(out[last]["cpu_s"] / out[first]["cpu_s"], 2)
    return out


def _interval(counts: Sequence[tuple[int, int]]) -> list[float]:
    """95 % interval of 100 * (sum of the first) / (sum of the second), over files drawn again."""
    import numpy as np

    of = np.array(counts, np.float64)
    drawn = of[np.random.default_rng(0).integers(0, len(of), (_DRAWS, len(of)))].sum(axis=1)
    rates = 100 * drawn[:, 0] / drawn[:, 1]
    return [round(float(q), 2) for q in np.quantile(rates, (0.025, 0.975))]


def _measured(
    clip: Clip, ways: Mapping[str, Way], repeat: int, spoken: Callable[[str], str]
) -> dict[str, Any]:
    """One file in every way, in turn, so that other load falls on all alike."""
    from edge.wav import read_mono
    from runtime.models.logmel import EAR_RATE_HZ

    pcm = read_mono(clip.path, EAR_RATE_HZ)
    said = words(clip.said, spoken)
    row: dict[str, Any] = {
        "file": clip.name,
        "audio_s": round(len(pcm) / EAR_RATE_HZ, 2),
        "words": len(said),
    }
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(repeat):
        for way, recognise in ways.items():
            cpu_s, wall_s = time.process_time(), time.perf_counter()
            text = recognise(pcm)
            taken[way].append((time.process_time() - cpu_s, time.perf_counter() - wall_s))
            row[way] = {"text": text, "wrong": words_wrong(said, words(text, spoken))}
    for way in ways:
        cpu_s, wall_s = (statistics.median(column) for column in zip(*taken[way], strict=True))
        row[way] |= {"cpu_ms": round(cpu_s * 1e3, 1), "ms": round(wall_s * 1e3, 1)}
    return row


def _line(row: Mapping[str, Any], ways: Sequence[str]) -> str:
    sides = (f"{w} {row[w]['wrong']:2d} wrong {row[w]['cpu_ms']:5.0f} ms" for w in ways)
    return f"{row['file']:<28}{row['audio_s']:6.2f} s {row['words']:3d} words  {'   '.join(sides)}"


def _table(result: Mapping[str, Any], ways: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{result['model']}: {result['n_files']} files, {result['audio_s']} s")
    for column in ("", "words wrong", "WER", "95 %", "processor", "per second of sound", "median"):
        table.add_column(column, justify="left" if not column else "right")
    for way in ways:
        part = result[way]
        low, high = part["wer_interval"]
        table.add_row(
            way,
            f"{part['wrong']} of {result['words']}",
            f"{part['wer_percent']:.1f} %",
            f"{low:.1f} to {high:.1f}",
            f"{part['cpu_s']:.2f} s",
            f"{part['cpu_per_audio_s'] * 1e3:.0f} ms",
            f"{part['ms_median']:.0f} ms",
        )
    console = Console()
    console.print(table)
    for way in ways[1:]:
        part = result[way]
        low, high = part["wer_change_interval"]
        console.print(
            f"{way} against {ways[0]}: {part['wer_change_points']:+.1f} points of words "
            f"({low:+.1f} to {high:+.1f}), {part['cpu_ratio']:.2f} times the processor time",
            highlight=False,
        )
