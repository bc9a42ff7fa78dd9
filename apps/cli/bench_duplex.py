"""`edge bench duplex`: how fast a multistream model steps on this machine."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from apps.cli.options import json_option

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command("duplex")
@click.option("--model", type=_FOLDER, metavar="DIR", help="A multistream artifact.")
@click.option("--codec", type=_FOLDER, metavar="DIR", help="A codec artifact to run with it.")
@click.option(
    "--random-weights",
    metavar="SIZE",
    help="Make a model of a published size with random weights on the spot: moshi-7b.",
)
@click.option("--layers", type=int, default=0, metavar="N", help="Only N layers of that model.")
@click.option("--temporal", default="q4_K_M", show_default=True, help="Its GGUF type or mix.")
@click.option(
    "--depth-bits", type=click.Choice(["4", "8"]), default="4", show_default=True,
    help="Bits of its depth transformer.",
)  # fmt: skip
@click.option("--keep", type=_FOLDER, metavar="DIR", help="Keep the random model here.")
@click.option("--frames", type=click.IntRange(1), default=100, show_default=True)
@click.option("--cached", type=click.IntRange(0), default=0, help="Frames held before it begins.")
@click.option("--threads", type=click.IntRange(1), help="Cores; all by default.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, metal or auto.")
@click.option("--depth-device", help="Of the depth transformer, if another.")
@click.option("--kv", type=click.Choice(["auto", "f32", "f16", "q8_0"]), default="auto")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Also write the JSON here."
)
@json_option
def bench_duplex(
    model: Path | None,
    codec: Path | None,
    random_weights: str | None,
    layers: int,
    temporal: str,
    depth_bits: str,
    keep: Path | None,
    frames: int,
    cached: int,
    threads: int | None,
    device: str,
    depth_device: str | None,
    kv: Any,
    out: Path | None,
    as_json: bool,
) -> None:
    """Step a model with random user codes: stage times, bytes a frame, share of the bandwidth."""
    from apps.bench import duplex
    from apps.bench.machine import machine
    from apps.checks.machine import measured_bandwidth_gb_s
    from edge.atomic import write_text
    from edge.errors import UsageError
    from export.random_moshi import layers_of, make_random
    from runtime.cores import available_cores

    if (model is None) == (random_weights is None):
        raise UsageError("want one of --model DIR and --random-weights SIZE")
    n_threads = threads or available_cores()
    with ExitStack() as stack:
        if random_weights is not None:
            folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "model"
            model = make_random(
                random_weights,
                folder,
                temporal=type_of(temporal, layers or layers_of(random_weights)),
                name=temporal,
                depth_bits=int(depth_bits),
                n_layers=layers,
            )
        assert model is not None
        options = duplex.BenchOptions(frames, cached, n_threads, device, depth_device, kv)
        report = duplex.bench_duplex(
            model, codec, options, bandwidth=lambda: measured_bandwidth_gb_s(n_threads)
        )
    whole = layers_of(random_weights) if random_weights else report["layers"]
    result = {"bench": "duplex", "machine": machine(), "whole_layers": whole, **report}
    if random_weights:
        result["model"] = f"{random_weights}, random weights"
    if out:
        write_text(out, json.dumps(result, indent=1))
    if as_json:
        click.echo(json.dumps(result))
    else:
        _show(result)


def type_of(name: str, n_layers: int) -> Callable[[str], str]:
    """The type of each tensor under a type's or a mix's name."""
    from quant.llama_mix import MIXES, mix

    if name in MIXES:
        return lambda tensor: mix(name, tensor, n_layers, tied=True)
    return lambda _tensor: name


def _show(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="A frame, ms")
    for column in ("stage", "p50", "p95", "p99", "max"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for name, times in result["stage_ms"].items():
        table.add_row(name, *(f"{times[key]:.1f}" for key in ("p50", "p95", "p99", "max")))
    console = Console()
    console.print(table)
    roofline, frames = result["roofline"], result["frames"]
    for stage in ("temporal", "depth"):
        reached = roofline[stage]
        share = ""
        if reached["share"] is not None:
            share = (
                f", {reached['share']:.0%} of the {roofline['bandwidth_gb_per_s']} GB/s measured "
                "here"
            )
        console.print(
            f"{stage}: {result['bytes_per_frame'][stage] / 1e9:.2f} GB a frame at "
            f"{reached['gb_per_s']} GB/s{share}",
            highlight=False,
        )
    console.print(
        f"a bare llama_decode loop over the same weights: p50 "
        f"{result['bare_llama_decode_ms']['p50']:.1f} ms; ours takes "
        f"{result['temporal_to_bare']:.2f} times that",
        highlight=False,
    )
    verdict = "real time" if result["real_time"] else "NOT real time: a frame is 80 ms"
    if result["whole_layers"] != result["layers"]:
        verdict += f" (with {result['layers']} of {result['whole_layers']} layers)"
    console.print(
        f"{frames['missed']} of {frames['count']} frames late; {verdict}; memory "
        f"{result['rss_mb']['peak']:.0f} MiB at most",
        highlight=False,
    )
