"""A float multistream artifact into a smaller one: the GGUF, the depth graph, the input tables."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
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
from edge.outputs import check_new_folder
from export.gguf_read import read_gguf
from quant.gguf import TypeOf, quantize_gguf
from quant.llama_mix import wants_more
from quant.onnx_matmul import quantize_matmuls
from quant.onnx_presets import Progress, Quantized, unheard
from runtime.models.multistream.artifact import KIND
from runtime.models.multistream.spec import DEPTH_FILE, TEMPORAL_FILE, MoshiSpec

_HEAD = "token_embd.weight"  # the text head, tied: see export/temporal_gguf.py
_DEPTH_HEADS = ("linears.",)


@dataclass(frozen=True, slots=True)
class MoshiRecipe:
    """Types of a model's parts. temporal, head: llama.cpp's names, such as q4_K or q4_K_M.

    "" leaves a part in the type that it is stored in. depth_bits, depth_head_bits: 4, 8, or 0 for
    float.
    """

    temporal: str
    head: str
    depth_bits: int
    depth_head_bits: int


# Where llama.cpp's medium mix keeps two more bits, by layer: LLAMA_FTYPE_MOSTLY_Q4_K_M.
_LAYER = re.compile(r"blk\.(\d+)\.(attn_v|ffn_down)\.weight")
_MORE = {"q4_K_M": ("q4_K", "q6_K")}

# The names are those that all artifacts' recipes have; "float" copies.
RECIPES: Mapping[str, MoshiRecipe] = {
    "float": MoshiRecipe("", "", 0, 0),
    "transparent": MoshiRecipe("q8_0", "q8_0", 8, 0),
    "int8": MoshiRecipe("q8_0", "q8_0", 8, 8),
    "compact": MoshiRecipe("q4_K_M", "q6_K", 8, 8),
    "int4": MoshiRecipe("q4_K", "q6_K", 4, 8),
    "tiny": MoshiRecipe("q3_K", "q4_K", 4, 4),
}


def quantize_named(
    source: Path,
    recipe: str,
    out: Path,
    *,
    threads: int = 1,
    on_progress: Progress = unheard,
) -> Quantized:
    """Write a smaller artifact by one of RECIPES, all of it or nothing.

    Raises UsageError for another recipe, ArtifactError for what is no whole float artifact.
    """
    if recipe not in RECIPES:
        raise UsageError(
            f"unknown recipe {recipe!r} for a multistream model; use {', '.join(RECIPES)}"
        )
    check_new_folder(out)
    before = _size_bytes(read_manifest(source))
    n_tensors = len(read_gguf(source / TEMPORAL_FILE).tensors)
    done = 0

    def told(_name: str, _n_bytes: int) -> None:
        nonlocal done
        done += 1
        on_progress("quantizing the main transformer's tensors", done, n_tensors)

    quantize_moshi(source, out, RECIPES[recipe], name=recipe, threads=threads, on_tensor=told)
    made = read_manifest(out)
    return Quantized(out, recipe, made.recipe.tensors, before, _size_bytes(made))


def type_of(recipe: MoshiRecipe, n_layers: int) -> TypeOf:
    """The type of each matrix of the GGUF, "" where it stays as it is stored."""
    few, many = _MORE.get(recipe.temporal, (recipe.temporal, recipe.temporal))

    def chosen(name: str) -> str:
        if name == _HEAD:
            return recipe.head
        match = _LAYER.fullmatch(name)
        return many if match and wants_more(int(match[1]), n_layers) else few

    return chosen


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
            type_of(recipe, spec.n_layers),
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
        config=replace(spec, float_kv=spec.float_kv and name == "float").as_table(),
        recipe=RecipeRecord(name, became),
        sources=(*manifest.sources, SourceRecord(TEMPORAL_FILE, temporal.sha256)),
    )


def _size_bytes(manifest: Manifest) -> int:
    return sum(record.size_bytes for record in manifest.files)
