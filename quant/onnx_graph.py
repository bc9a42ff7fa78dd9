"""One ONNX graph rewritten, weight by weight, as a recipe was resolved for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from quant.onnx_codebooks import half_tables, two_stage_search
from quant.onnx_presets import scheme_for
from quant.onnx_products import GraphEditor
from quant.onnx_weights import apply, is_search, weights_of
from quant.resolve import PRESET, STAGED
from quant.subject import load_editor

Float32 = NDArray[np.float32]
_NOTHING: Mapping[str, Float32] = MappingProxyType({})


def rewrite(
    source: Path, target: Path, wanted: Mapping[str, str], *, side: str = "",
    importance: Mapping[str, Float32] = _NOTHING,
) -> Mapping[str, str]:  # fmt: skip
    """Write target; wanted: precision of each weight. side: a codec's "encoder" or "decoder".

    importance: of a matrix's inputs, by weight; scales of blocks are chosen by it.
    Returns what each changed weight has become. Raises ArtifactError, UsageError.
    """
    import onnx

    editor = load_editor(source)
    edit(editor, wanted, side=side, importance=importance)
    onnx.save(editor.finish(), str(target))
    return dict(sorted(editor.what.items()))


def edit(
    editor: GraphEditor, wanted: Mapping[str, str], *, side: str = "",
    importance: Mapping[str, Float32] = _NOTHING,
) -> None:  # fmt: skip
    """Give the weights of a loaded graph their precisions."""
    presets = {
        name: precision.removeprefix(PRESET)
        for name, precision in wanted.items()
        if precision.startswith(PRESET)
    }
    if presets:
        _apply_presets(editor, presets, side)
    for weight in weights_of(editor):
        precision = wanted.get(weight.name, "float")
        if weight.name not in presets and precision not in STAGED:
            apply(editor, weight, precision, importance.get(weight.name))
    for precision in STAGED:
        tables = {name for name, one in wanted.items() if one == precision}
        if tables:
            two_stage_search(editor, half=precision == "staged-f16", only=tables.__contains__)


def _apply_presets(editor: GraphEditor, presets: Mapping[str, str], side: str) -> None:
    """What the codec's own presets make of the weights that were left to them."""
    for product, node in editor.products():
        preset = presets.get(product.weight)
        if preset is None:
            continue
        scheme = scheme_for(preset, side, product)
        if scheme is not None and not is_search(editor, node):
            scheme(editor, product, node)
    for preset in sorted(set(presets.values()) - {"float"}):
        tables = {name for name, one in presets.items() if one == preset}
        two_stage_search(editor, half=preset != "transparent", only=tables.__contains__)
        if preset in ("int8", "tiny"):
            half_tables(editor)
