"""A recipe and a model brought together: what every weight becomes, and what that takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edge.errors import UsageError
from quant import onnx_weights
from quant.llama_mix import MIXES, mix
from quant.onnx_matmul import BLOCK
from quant.onnx_presets import PRESETS
from quant.recipe import Recipe, assign, layer_of
from quant.subject import Item, Subject
from runtime.backends.ggml import TYPES, Ggml

PRESET = "preset:"
STAGED = ("staged", "staged-f16")  # a codec's codebook search in two stages
_BLOCK_BITS = {"float": 0, "w8": 8, "w4": 4}
_FLOATS = ("f32", "f16", "bf16")


@dataclass(frozen=True, slots=True)
class Choice:
    """What one weight becomes. fell_back: the recipe's first wish does not fit it."""

    item: Item
    precision: str
    size_bytes: int
    fell_back: bool = False


@dataclass(frozen=True, slots=True)
class Resolved:
    """A recipe for one model, weight by weight."""

    recipe: Recipe
    choices: Mapping[str, Choice]

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights in the files."""
        return sum(choice.size_bytes for choice in self.choices.values())

    @property
    def n_values(self) -> int:
        """Weights in all."""
        return sum(choice.item.n_values for choice in self.choices.values())

    @property
    def bits_per_weight(self) -> float:
        """Mean bits a weight takes."""
        return 8 * self.weight_bytes / max(1, self.n_values)


def resolve(recipe: Recipe, subject: Subject) -> Resolved:
    """What each weight of a model becomes.

    Raises UsageError: a rule that matches nothing, an unknown precision, or one that a weight
    cannot take while its rule names no fallback; a source that is quantized already.
    """
    items = {item.label: item for item in subject.items}
    if not items:
        raise UsageError(f"{subject.path}: there is no weight in it that a recipe could change")
    assigned = assign(recipe, subject.section, list(items))
    ggml = Ggml() if any(item.part.engine == "gguf" for item in items.values()) else None
    last = max((layer for label in items if (layer := layer_of(label)) is not None), default=-1)
    choices = {}
    for label, item in items.items():
        rule = assigned.get(label)
        wanted = [rule.to, *([rule.fallback] if rule.fallback else [])] if rule else ["float"]
        choices[label] = _choose(item, wanted, ggml, last + 1, recipe.name, items)
    return Resolved(recipe, choices)


def _choose(
    item: Item, wanted: Sequence[str], ggml: Ggml | None, n_layers: int, recipe: str,
    items: Mapping[str, Item],
) -> Choice:  # fmt: skip
    for i, precision in enumerate(wanted):
        if item.part.engine == "gguf":
            assert ggml is not None
            kind = precision
            if precision in MIXES:
                kind = mix(precision, item.name, n_layers, tied=_is_tied(item, items))
            size = _gguf_bytes(item, kind, ggml)
            if size is not None:
                return Choice(item, item.stored if kind == "float" else kind, size, i > 0)
        elif _fits_graph(item, precision):
            return Choice(item, precision, _graph_bytes(item, precision), i > 0)
    raise UsageError(
        f"recipe {recipe}: {item.label} {list(item.shape)} cannot become {' or '.join(wanted)}; "
        "name a fallback that it can take"
    )


def _is_tied(item: Item, items: Mapping[str, Item]) -> bool:
    """Whether the token table is the output head too."""
    prefix = item.label.removesuffix(item.name)
    return f"{prefix}output.weight" not in items


def _gguf_bytes(item: Item, kind: str, ggml: Ggml) -> int | None:
    if item.stored not in _FLOATS and kind != "float":
        raise UsageError(
            f"{item.label} is {item.stored} already: what was lost then cannot be measured now; "
            "quantize the float model"
        )
    if kind == "float":
        kind = item.stored
    elif kind not in TYPES:
        known = ", ".join((*TYPES, *MIXES))
        raise UsageError(f"unknown tensor type {kind!r}; known are float, {known}")
    if kind not in TYPES or not ggml.fits(kind, item.shape[-1]):
        return None
    return ggml.row_bytes(kind, item.shape[-1]) * (item.n_values // item.shape[-1])


def _fits_graph(item: Item, precision: str) -> bool:
    weight = item.weight
    assert weight is not None
    if precision.startswith(PRESET):
        if precision.removeprefix(PRESET) not in PRESETS:
            raise UsageError(f"unknown preset {precision!r}; known are {', '.join(PRESETS)}")
        return True
    if precision in STAGED:
        return weight.kind == "search"
    if item.part.engine == "blocks":
        if precision not in _BLOCK_BITS:
            onnx_weights.fits(weight, precision)  # says so where there is no such precision
            return False
        return precision == "float" or (weight.kind == "matmul" and weight.shape[0] % BLOCK == 0)
    if weight.kind == "search" and precision not in ("float", "f16"):
        return False
    return onnx_weights.fits(weight, precision)


def _graph_bytes(item: Item, precision: str) -> int:
    weight = item.weight
    assert weight is not None
    if precision.startswith(PRESET):
        return _preset_bytes(item, precision.removeprefix(PRESET))
    if precision in STAGED:
        n = weight.n_values
        return n + (2 if precision == "staged-f16" else 4) * n
    if item.part.engine == "blocks" and precision != "float":
        n_blocks = weight.n_values // BLOCK
        return n_blocks * (BLOCK * _BLOCK_BITS[precision] // 8 + 4)
    return onnx_weights.size_bytes(weight, precision)


def _preset_bytes(item: Item, preset: str) -> int:
    """About what a codec preset makes of a weight; the presets decide by rows as well."""
    from quant.onnx_presets import scheme_for
    from quant.onnx_products import Product

    weight = item.weight
    assert weight is not None
    if weight.kind == "search":
        return 0 if preset == "float" else weight.n_values * (5 if preset == "transparent" else 3)
    if weight.kind != "matmul":
        small = weight.kind == "table" and preset in ("int8", "tiny")
        return weight.n_values * (2 if small else 4)
    product = Product(weight.name, (weight.shape[0], weight.shape[1]), weight.rows)
    if scheme_for(preset, item.part.name, product) is None:
        return weight.n_values * 4
    kind: Literal["w4", "int8"] = "w4" if preset == "tiny" else "int8"
    return onnx_weights.size_bytes(weight, kind)
