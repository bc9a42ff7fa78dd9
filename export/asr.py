"""`edge export asr`: a Whisper checkpoint becomes three ONNX graphs that a recogniser runs.

Our own exporter and not optimum's: that one pads every window to 30 s, knows no CTranslate2 file,
and pins an older transformers.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.atomic import atomic_path, write_text
from edge.errors import ArtifactError
from edge.hashing import sha256_of
from edge.manifest import GraphSpec, Manifest, SourceRecord, record_file, write_manifest
from edge.outputs import check_new_folder
from export.onnx import export_graph
from export.whisper_checkpoint import WhisperWeights, read_whisper
from export.whisper_net import WhisperCross, WhisperDecoder, WhisperEncoder
from runtime.backends.ort import open_session
from runtime.models.whisper import (
    CROSS,
    DECODER,
    ENCODER,
    KIND,
    VOCABULARY,
    is_multilingual,
)

Progress = Callable[[str, int, int], None]
Net = WhisperEncoder | WhisperCross | WhisperDecoder

MAX_ERROR = 2e-3  # of logits and encoded rows, whose sizes are about 10
_TRACED_WITH = {"columns": 400, "rows": 200, "past": 5}
_TOOLS = ("edgevoice", "torch", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True, slots=True)
class ExportedAsr:
    """What an export made. errors: by graph, the largest difference from torch."""

    directory: Path
    size_bytes: int
    n_tokens: int
    errors: dict[str, float]


def export_asr(checkpoint: Path, out: Path, *, on_progress: Progress) -> ExportedAsr:
    """Write the float artifact of a checkpoint folder into `out`, all of it or nothing.

    Raises ModelError or ShapeError for what is no Whisper checkpoint, ArtifactError where a graph
    does not compute what torch computes.
    """
    check_new_folder(out)
    on_progress("reading the checkpoint", 0, 1)
    weights = read_whisper(checkpoint)
    nets: dict[str, Net] = {
        ENCODER: WhisperEncoder(weights),
        CROSS: WhisperCross(weights),
        DECODER: WhisperDecoder(weights),
    }
    on_progress("reading the checkpoint", 1, 1)
    errors: dict[str, float] = {}
    with atomic_path(out) as part:
        part.mkdir()
        for done, (name, net) in enumerate(nets.items()):
            on_progress("exporting graphs", done, len(nets))
            path = part / f"{name}.onnx"
            inputs = net.inputs()
            named = {size for spec in inputs for size in spec.shape if isinstance(size, str)}
            export_graph(
                net,
                inputs,
                net.outputs(),
                path,
                name=f"whisper_{name}",
                sizes={size: _TRACED_WITH[size] for size in named},
            )
            errors[name] = compare(net, path)
        on_progress("exporting graphs", len(nets), len(nets))
        if worst := {name: error for name, error in errors.items() if not error <= MAX_ERROR}:
            raise ArtifactError(
                f"{out} does not compute what the checkpoint computes: {worst}, want at most "
                f"{MAX_ERROR}; nothing was written"
            )
        manifest = _finish(part, weights, nets)
    return ExportedAsr(
        out, sum(file.size_bytes for file in manifest.files), len(weights.vocabulary), errors
    )


def _finish(part: Path, weights: WhisperWeights, nets: dict[str, Net]) -> Manifest:
    write_text(part / VOCABULARY, json.dumps(weights.vocabulary, ensure_ascii=False))
    graphs = tuple(
        GraphSpec(name, f"{name}.onnx", tuple(net.inputs()), tuple(net.outputs()))
        for name, net in nets.items()
    )
    manifest = Manifest(
        kind=KIND,
        files=tuple(record_file(part, name) for name in (*(g.file for g in graphs), VOCABULARY)),
        config={
            "n_mels": weights.n_mels,
            "width": weights.width,
            "n_text_positions": weights.n_text_positions,
            "multilingual": is_multilingual(weights.vocabulary),
            "suppressed": list(weights.suppressed),
            "suppressed_first": list(weights.suppressed_first),
        },
        graphs=graphs,
        sources=tuple(SourceRecord(path.name, sha256_of(path)) for path in weights.sources),
        tools={name: importlib.metadata.version(name) for name in _TOOLS},
    )
    write_manifest(part, manifest)
    return manifest


def compare(net: Net, path: Path) -> float:
    """The largest difference between a graph and its net, at sizes it was not traced with."""
    import torch

    rng = np.random.default_rng(0)
    session = open_session(path)
    worst = 0.0
    for sizes in (
        {"columns": 118, "rows": 59, "past": 0},
        {"columns": 702, "rows": 351, "past": 19},
    ):
        feeds: dict[str, NDArray[np.generic]] = {}
        for spec in net.inputs():
            shape = [sizes[size] if isinstance(size, str) else size for size in spec.shape]
            if spec.dtype == "int64":
                feeds[spec.name] = np.full(shape, sizes["past"], np.int64)
            else:
                feeds[spec.name] = (0.5 * rng.standard_normal(shape)).astype(np.float32)
        with torch.no_grad():
            wanted = net(*(torch.from_numpy(feed) for feed in feeds.values()))
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        found = session.run(feeds)
        for spec, want in zip(net.outputs(), wanted, strict=True):
            worst = max(worst, float(np.abs(found[spec.name] - want.numpy()).max()))
    return worst
