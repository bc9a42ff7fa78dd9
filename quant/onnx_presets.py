"""Presets for a Mimi artifact: which product becomes what, and the artifact that comes out.

float        as exported.
transparent  the decoder's transformer in 8 bits, codebooks searched in two stages: keeps codes,
             which even 8 bits in the encoder change by some in a hundred.
int8         also the convolutions that are bound by memory; the decoder's keep 16-bit activations.
tiny         4-bit weights and float16 codebooks, for the size of the files.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge.atomic import atomic_path
from edge.errors import ArtifactError, UsageError
from edge.manifest import (
    GraphSpec,
    Manifest,
    RecipeRecord,
    artifact_file,
    read_manifest,
    record_file,
    verify,
    write_manifest,
)
from edge.outputs import check_new_folder
from quant.onnx_codebooks import half_tables, two_stage_search
from quant.onnx_products import GraphEditor, Product, Scheme, to_q4, to_u8, to_u8x16

Progress = Callable[[str, int, int], None]

PRESETS = ("float", "transparent", "int8", "tiny")

# Products narrower than this cost nothing and lose much. With more rows than these figures the
# arithmetic is the limit, not the memory, and float is as fast. Limbs need a dozen small nodes
# around them: a matrix must be large for that to pay.
_MIN_IN, _MIN_OUT = 64, 16
_MAX_ROWS_U8, _MAX_ROWS_LIMBS, _MIN_WEIGHTS_LIMBS = 96, 4, 1 << 20


@dataclass(frozen=True, slots=True)
class Quantized:
    """What became of an artifact. tensors: initializer -> scheme; bytes of all graphs."""

    directory: Path
    recipe: str
    tensors: Mapping[str, str]
    size_bytes_before: int
    size_bytes: int


def unheard(_stage: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


def quantize_mimi(
    artifact: Path, recipe: str, out: Path, *, on_progress: Progress = unheard
) -> Quantized:
    """Write a smaller artifact made from a float one, all of it or nothing.

    recipe: one of PRESETS. Raises UsageError for another, ArtifactError for what is no whole
    float Mimi artifact, EdgeError where `out` cannot be written.
    """
    if recipe not in PRESETS:
        raise UsageError(f"unknown recipe {recipe!r} for a codec; use {', '.join(PRESETS)}")
    check_new_folder(out)
    manifest = read_manifest(artifact)
    if manifest.kind != "mimi":
        raise ArtifactError(f"{artifact} is a {manifest.kind!r} artifact, not a codec")
    if manifest.recipe.name != "float":
        raise ArtifactError(
            f"{artifact} is {manifest.recipe.name} already; quantize the float artifact"
        )
    verify(artifact, manifest)
    tensors: dict[str, str] = {}
    with atomic_path(out) as part:
        part.mkdir()
        for done, graph in enumerate(manifest.graphs):
            on_progress("quantizing graphs", done, len(manifest.graphs))
            made = _quantize_graph(artifact_file(artifact, graph.file), graph, recipe, part)
            tensors |= {f"{graph.name}:{name}": what for name, what in made.items()}
        on_progress("quantizing graphs", len(manifest.graphs), len(manifest.graphs))
        smaller = replace(
            manifest,
            files=tuple(record_file(part, graph.file) for graph in manifest.graphs),
            recipe=RecipeRecord(recipe, tensors),
            tools={
                **manifest.tools,
                "edgevoice": importlib.metadata.version("edgevoice"),
                "onnx": importlib.metadata.version("onnx"),
            },
        )
        write_manifest(part, smaller)
    return Quantized(out, recipe, tensors, _size_bytes(manifest), _size_bytes(smaller))


def _quantize_graph(file: Path, graph: GraphSpec, recipe: str, part: Path) -> Mapping[str, str]:
    """Rewrite one graph into the folder `part`; returns what each weight became."""
    import onnx

    editor = GraphEditor(onnx.load(str(file)))
    for product, node in editor.products():
        scheme = scheme_for(recipe, graph.name, product)
        if scheme is not None and not _is_search(editor, node):
            scheme(editor, product, node)
    if recipe != "float":
        two_stage_search(editor, half=recipe != "transparent")
    if recipe in ("int8", "tiny"):
        half_tables(editor)
    onnx.save(editor.finish(), str(part / graph.file))
    return editor.what


def scheme_for(recipe: str, side: str, product: Product) -> Scheme | None:
    """What a recipe makes of one product; None leaves it float.

    side: "encoder" or "decoder". A decoder's convolution never gets 8-bit activations.
    """
    n_in, n_out = product.shape
    if recipe == "float" or n_in < _MIN_IN or n_out < _MIN_OUT or product.weight.endswith(".turn"):
        return None
    in_transformer = "_transformer." in product.weight
    if recipe == "tiny":
        return to_q4(float_activations=side == "decoder" and not in_transformer)
    if recipe == "transparent" and side == "encoder":
        return None
    if in_transformer:
        return to_u8
    if recipe == "transparent":
        return None
    if side == "encoder":
        return to_u8 if product.rows <= _MAX_ROWS_U8 else None
    if product.rows > _MAX_ROWS_LIMBS or n_in * n_out < _MIN_WEIGHTS_LIMBS:
        return None
    return to_u8x16


def _is_search(editor: GraphEditor, node: Any) -> bool:
    """Whether a product is a codebook search, which has a scheme of its own."""
    readers = editor.consumers(node.output[0])
    return len(readers) == 1 and readers[0].op_type == "Sub"


def _size_bytes(manifest: Manifest) -> int:
    return sum(record.size_bytes for record in manifest.files)
