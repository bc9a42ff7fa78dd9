"""A float multistream artifact into a smaller one: the GGUF, the depth graph, the input tables."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edge.atomic import atomic_path
from edge.errors import UsageError
from edge.manifest import (
    Manifest,
    RecipeRecord,
    SourceRecord,
    read_manifest,
    record_file,
    verify,
    write_manifest,
)
from quant.gguf import quantize_gguf
from quant.onnx_matmul import quantize_matmuls
from runtime.models.multistream.artifact import KIND
from runtime.models.multistream.spec import DEPTH_FILE, TEMPORAL_FILE, MoshiSpec

_HEAD = "token_embd.weight"  # the text head, tied: see export/temporal_gguf.py
_DEPTH_HEADS = ("linears.",)


@dataclass(frozen=True, slots=True)
class MoshiRecipe:
    """Types of a model's parts. temporal, head: llama.cpp's names, such as q4_K.

    depth_bits, depth_head_bits: 4, 8, or 0 for float.
    """

    temporal: str
    head: str
    depth_bits: int
    depth_head_bits: int


def quantize_moshi(
    source: Path,
    out: Path,
    recipe: MoshiRecipe,
    *,
    name: str,
    threads: int = 1,
    on_tensor: Callable[[str, int], None] | None = None,
) -> Path:
    """Write the artifact `out` from the float artifact `source`; returns out.

    Raises ArtifactError, UsageError; nothing then stands at out.
    """
    manifest = read_manifest(source)
    if manifest.kind != KIND or manifest.recipe.name != "float":
        raise UsageError(
            f"{source}: a {manifest.recipe.name} {manifest.kind} artifact; want a float {KIND} one"
        )
    verify(source, manifest)
    spec = MoshiSpec.from_table(manifest.config)
    with atomic_path(out) as folder:
        folder.mkdir()
        became = quantize_gguf(
            source / TEMPORAL_FILE,
            folder / TEMPORAL_FILE,
            lambda tensor: recipe.head if tensor == _HEAD else recipe.temporal,
            threads=threads,
            on_tensor=on_tensor,
        )
        if spec.depth_steps:
            became |= quantize_matmuls(
                source / DEPTH_FILE,
                folder / DEPTH_FILE,
                lambda matrix: (
                    recipe.depth_head_bits if matrix.startswith(_DEPTH_HEADS) else recipe.depth_bits
                ),
            )
        for record in manifest.files:
            if not (folder / record.path).exists():
                (folder / record.path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / record.path, folder / record.path)
        write_manifest(folder, _manifest(folder, manifest, spec, name, became))
    return out


def _manifest(
    folder: Path, manifest: Manifest, spec: MoshiSpec, name: str, became: dict[str, str]
) -> Manifest:
    files = tuple(record_file(folder, record.path) for record in manifest.files)
    temporal = next(one for one in manifest.files if one.path == TEMPORAL_FILE)
    return replace(
        manifest,
        files=files,
        config=replace(spec, float_kv=False).as_table(),
        recipe=RecipeRecord(name, became),
        sources=(*manifest.sources, SourceRecord(TEMPORAL_FILE, temporal.sha256)),
    )
