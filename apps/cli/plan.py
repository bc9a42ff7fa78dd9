"""`edge plan`: which precision and placement of a model fits 80 ms on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apps.cli.options import json_option

if TYPE_CHECKING:
    from apps.bench.size import MeasuredStep
    from runtime.plan import Plan

_TELLING_MS = 5.0


@click.command("plan")
@click.argument("model")
@click.option(
    "--codec", type=click.Path(path_type=Path), help="A codec to be timed; else the one beside."
)
@click.option("--gpu-bandwidth", type=float, default=0.0, metavar="GB/S", help="Of a GPU here.")
@click.option("--gpu-memory", type=float, default=0.0, metavar="GB", help="Of that GPU.")
@click.option(
    "--share", type=click.FloatRange(0.05, 1.0), help="Of bandwidth reached; see `bench duplex`."
)
@json_option
def plan(
    model: str,
    codec: Path | None,
    gpu_bandwidth: float,
    gpu_memory: float,
    share: float | None,
    as_json: bool,
) -> int:
    """Say in numbers what fits a frame here. MODEL: an artifact's folder, or moshi-7b.

    Exit code 1 where nothing fits and the cascade is the engine to take.
    """
    from apps.bench.size import codec_beside, codec_ms, measured_step, model_size
    from apps.checks.machine import available_memory_bytes, measured_bandwidth_gb_s
    from runtime import plan as planning
    from runtime.cores import available_cores

    folder = Path(model)
    codec = codec or codec_beside(folder)
    size = model_size(model, codec_ms=codec_ms(codec) if codec else 0.0)
    cores = available_cores()
    bandwidth_gb_s = round(measured_bandwidth_gb_s(cores), 1)
    found = None
    if folder.is_dir():
        found = measured_step(folder, threads=cores, bandwidth_gb_s=bandwidth_gb_s)
        # So small a step says nothing about how large ones use the memory.
        if share is None and found.temporal_ms >= _TELLING_MS:
            share = found.share
    machine = planning.Machine(
        bandwidth_gb_s=bandwidth_gb_s,
        memory_bytes=available_memory_bytes() or 1 << 62,
        gpu_bandwidth_gb_s=gpu_bandwidth,
        gpu_memory_bytes=int(gpu_memory * 1e9),
        share=share or planning.DEFAULT_SHARE,
    )
    made = planning.plan(size, machine)
    engine = "duplex" if made.choice else "cascade"
    if as_json:
        facts = {"model": model, "engine": engine, "reason": made.reason}
        click.echo(
            json.dumps(
                facts
                | {
                    "machine": asdict(machine),
                    "size": asdict(size),
                    "measured": asdict(found) if found else None,
                    "choice": asdict(made.choice) if made.choice else None,
                    "options": [asdict(option) | {"fits": option.fits} for option in made.options],
                }
            )
        )
    else:
        _show(made, asdict(machine), engine, found)
    return 0 if made.choice else 1


def _show(made: Plan, machine: dict[str, Any], engine: str, found: MeasuredStep | None) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"A frame at {machine['bandwidth_gb_s']} GB/s")
    for name in ("precision", "cache", "placement", "step ms", "memory GB", ""):
        table.add_column(name)
    for one in made.options:
        verdict = "fits" if one.fits else "too slow" if not one.fits_time else "too large"
        total = (one.memory_bytes + one.gpu_memory_bytes) / 1e9
        table.add_row(
            one.precision, one.kv, one.placement, f"{one.step_ms:.0f}", f"{total:.1f}", verdict
        )
    console = Console()
    console.print(table)
    if found:
        console.print(
            f"as it is ({found.recipe}), measured: main transformer {found.temporal_ms:.1f} ms, "
            f"depth transformer {found.depth_ms:.1f} ms; {found.share:.0%} of the bandwidth",
            highlight=False,
        )
    console.print(f"engine: {engine}; {made.reason}", highlight=False)
