"""`edge export mimi`: a checkpoint becomes an artifact of two checked streaming graphs."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.atomic import atomic_path
from edge.errors import UsageError
from edge.hashing import sha256_of
from edge.manifest import (
    GraphSpec,
    Manifest,
    RecipeRecord,
    SourceRecord,
    StatePair,
    record_file,
    write_manifest,
)
from edge.outputs import check_new_folder
from export.checkpoint import read_checkpoint
from export.mimi_config import MimiConfig, load_config
from export.mimi_net import MimiDecoder, MimiEncoder
from export.onnx import export_graph
from export.parity import Parity, compare_mimi, require
from runtime.models.mimi import DECODER, ENCODER, KIND, MimiCodec
from runtime.models.mimi_state import RingShape

Progress = Callable[[str, int, int], None]

_TOOLS = ("edgevoice", "torch", "onnx", "onnxscript", "onnxruntime")


def unheard(_stage: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export made: where, of what size, and how it compared."""

    directory: Path
    size_bytes: int
    n_codebooks: int
    parity: Parity


def export_mimi(
    checkpoint: Path,
    out: Path,
    *,
    config_file: Path | None = None,
    n_codebooks: int = 8,
    on_progress: Progress = unheard,
) -> Exported:
    """Write the float artifact of a checkpoint into `out`, all of it or nothing.

    on_progress is told a stage and how much of it is done. Raises ConfigError, ShapeError or
    ModelError for what is no Mimi checkpoint, UsageError for a number of codebooks it has not,
    ArtifactError where the graphs do not compute what torch computes.
    """
    config = load_config(config_file)
    if not 1 <= n_codebooks <= config.n_codebooks:
        raise UsageError(f"codebooks must be 1 to {config.n_codebooks}, got {n_codebooks}")
    check_new_folder(out)
    on_progress("reading the checkpoint", 0, 1)
    weights = read_checkpoint(checkpoint, config)
    encoder = MimiEncoder(weights, config, n_codebooks)
    decoder = MimiDecoder(weights, config, n_codebooks)
    del weights
    source = SourceRecord(checkpoint.name, sha256_of(checkpoint))
    on_progress("reading the checkpoint", 1, 1)
    with atomic_path(out) as part:
        part.mkdir()
        graphs = (graph_spec(ENCODER, encoder), graph_spec(DECODER, decoder))
        for done, (graph, net) in enumerate(zip(graphs, (encoder, decoder), strict=True)):
            on_progress("exporting graphs", done, len(graphs))
            name = f"mimi_{graph.name}"
            export_graph(net, graph.inputs, graph.outputs, part / graph.file, name=name)
        on_progress("exporting graphs", len(graphs), len(graphs))
        manifest = Manifest(
            kind=KIND,
            files=tuple(record_file(part, graph.file) for graph in graphs),
            config={**config.as_dict(), "codebooks": n_codebooks},
            graphs=graphs,
            recipe=RecipeRecord(),
            sources=(source,),
            tools={name: importlib.metadata.version(name) for name in _TOOLS},
        )
        write_manifest(part, manifest)
        parity = compare_mimi(
            MimiCodec(part),
            encoder,
            decoder,
            on_frame=lambda done, total: on_progress("comparing with torch", done, total),
        )
        require(parity, str(out))
    size_bytes = sum(record.size_bytes for record in manifest.files)
    return Exported(out, size_bytes, n_codebooks, parity)


def ring_shape(config: MimiConfig) -> RingShape:
    """What the host must know of a codec to keep its state."""
    return RingShape(
        n_positions=config.n_positions,
        context=config.context,
        n_layers=config.n_layers,
        n_heads=config.n_heads,
        head_dim=config.head_dim,
        max_period=config.max_period,
    )


def graph_spec(name: str, net: MimiEncoder | MimiDecoder) -> GraphSpec:
    """What a manifest says of a net's graph."""
    inputs, outputs = tuple(net.inputs()), tuple(net.outputs())
    states = [
        StatePair(spec.name, spec.name.replace("state.", "next.", 1), "conv")
        for spec in inputs
        if spec.name.startswith("state.")
    ]
    for letter in "kv":
        states += [
            StatePair(spec.name, f"new_{letter}", "kv")
            for spec in inputs
            if spec.name.startswith(f"cache_{letter}.")
        ]
    return GraphSpec(name, f"{name}.onnx", inputs, outputs, tuple(states))
