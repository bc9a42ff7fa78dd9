"""`edge bench codec`: milliseconds a frame of every preset, beside other makers' Mimi."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from apps.cli.options import json_option

_MADE = ("transparent", "int8", "tiny")
_path = click.Path(path_type=Path)


@click.command("codec")
@click.option(
    "--model", "models", type=_path, multiple=True, metavar="DIR",
    help="An artifact to measure; repeat for more. Without it: random weights, every preset.",
)  # fmt: skip
@click.option(
    "--checkpoint", type=_path, metavar="FILE", help="The artifacts' checkpoint, for the peers."
)
@click.option(
    "--against", default="", metavar="NAMES", help="Peers to measure in turn: rustymimi,moshi."
)
@click.option("--frames", type=int, default=120, show_default=True, help="Frames to measure.")
@click.option(
    "--threads", "threads", type=int, multiple=True, default=(1,), show_default=True,
    help="Threads of each engine; repeat for a run with each.",
)  # fmt: skip
@click.option("--paced/--no-paced", default=True, help="Also one frame every 80 ms.")
@click.option("--out", type=_path, metavar="FILE", help="Also write the JSON here.")
@json_option
def codec(
    models: tuple[Path, ...],
    checkpoint: Path | None,
    against: str,
    frames: int,
    threads: tuple[int, ...],
    paced: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure encode and decode, all engines in turn, in wall and in processor time."""
    from apps.bench.codec import PEERS
    from apps.bench.machine import machine
    from apps.cli.stages import stages
    from edge.atomic import write_text
    from edge.errors import UsageError
    from edge.manifest import read_manifest

    peers = [name for name in against.split(",") if name]
    if unknown := sorted(set(peers) - set(PEERS)):
        raise UsageError(f"unknown peer {unknown[0]!r}; use {', '.join(PEERS)}")
    if peers and models and checkpoint is None:
        raise UsageError("peers need the artifacts' checkpoint: give --checkpoint FILE")
    if checkpoint and not checkpoint.is_file():
        raise UsageError(f"{checkpoint}: there is no such checkpoint")
    if frames < 1 or min(threads) < 1:
        raise UsageError("frames and threads must be at least 1")
    with stages() as told:
        if not models:
            checkpoint, models = _made(told)
        job = {
            "artifacts": [str(model) for model in models],
            "checkpoint": str(checkpoint) if peers else "",
            "codebooks": read_manifest(models[0]).config.get("codebooks", 8),
            "against": peers,
            "frames": frames,
            "paced": paced,
        }
        runs = [_run({**job, "threads": n}, told) for n in threads]
    result = {"bench": "codec", "machine": machine(), "runs": runs}
    if out:
        write_text(out, json.dumps(result, indent=1))
    if as_json:
        click.echo(json.dumps(result))
    else:
        _print(runs)


def _made(told: Any) -> tuple[Path, tuple[Path, ...]]:
    """A random checkpoint of the published size and an artifact per preset.

    They are kept for next time, until the code that makes them changes.
    """
    from edge.atomic import write_text
    from edge.paths import cache_dir, make_dir
    from export.mimi import export_mimi
    from export.mimi_config import MimiConfig
    from export.mimi_random import write_random_checkpoint
    from quant.recipe import load_recipe
    from quant.run import quantize
    from quant.subject import open_subject

    home = make_dir(cache_dir() / "bench-codec")
    checkpoint, plain = home / "random.safetensors", home / "float"
    stamp, makers = home / "made-by", _makers()
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != makers:
        for name in ("float", *_MADE):
            shutil.rmtree(home / name, ignore_errors=True)
        checkpoint.unlink(missing_ok=True)
        write_text(stamp, makers)
    if not checkpoint.is_file():
        write_random_checkpoint(checkpoint, MimiConfig(), seed=0)
    if not plain.is_dir():
        export_mimi(checkpoint, plain, on_progress=told)
    for recipe in _MADE:
        if not (home / recipe).is_dir():
            quantize(open_subject(plain), load_recipe(recipe), home / recipe, on_progress=told)
    return checkpoint, (plain, *(home / recipe for recipe in _MADE))


def _makers() -> str:
    """A digest of the code that makes artifacts, so that an old one is not measured for a new."""
    import export
    import quant

    folders = (Path(package.__path__[0]) for package in (export, quant))
    digest = hashlib.sha256()
    for file in sorted(file for folder in folders for file in folder.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _run(job: dict[str, Any], told: Any) -> dict[str, Any]:
    """One child process with its own thread pools. Raises EdgeError with its message."""
    from edge.errors import EdgeError

    stage = f"measuring with {job['threads']} thread(s)"
    child = subprocess.Popen(
        [sys.executable, "-m", "apps.bench.codec_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stderr is not None
    assert child.stdout is not None
    said = []
    with child:
        child.stdin.write(json.dumps(job))
        child.stdin.close()
        for line in child.stderr:
            done, _, total = line.strip().partition(" ")
            if done.isdigit() and total.isdigit():
                told(stage, int(done), int(total))
            else:
                said.append(line.strip())
        text = child.stdout.read()
    try:
        result: dict[str, Any] = json.loads(text)
    except ValueError as exc:
        raise EdgeError(
            f"the bench's process ended early: {said[-1] if said else 'killed'}"
        ) from exc
    if "error" in result:
        raise EdgeError(result["error"])
    return result


def _print(runs: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for run in runs:
        table = Table(title=f"{run['threads']} thread(s), ms a frame: wall p50 / p99, cpu p50")
        table.add_column("")
        for column in ("encode", "decode", "both", "codes equal", "paced p50 / p99", "of a core"):
            table.add_column(column, justify="right")
        for name, row in run["interleaved"].items():
            cells = [
                f"{row['wall_ms'][part]['p50']:.1f} / {row['wall_ms'][part]['p99']:.1f}, "
                f"{row['cpu_ms'][part]['p50']:.1f}"
                for part in ("encode", "decode", "both")
            ]
            pace = run.get("paced", {}).get(name)
            wall = pace["wall_ms"] if pace else None
            table.add_row(
                name,
                *cells,
                f"{row['codes_equal_to_first']:.1%}",
                f"{wall['p50']:.1f} / {wall['p99']:.1f}" if wall else "",
                f"{pace['core_share']:.0%}" if pace else "",
            )
        console.print(table)
