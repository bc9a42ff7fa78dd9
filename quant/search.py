"""The best mix of precisions under a size: how much each weight matters, then a greedy choice.

Damage is taken to add up: each weight is rounded alone and what that does is measured, in its own
values or, for a codec's decoder, in the sound of the same tokens. Then the change that frees the
most bytes for the least damage is made, again and again, until the size is reached; every state on
the way is a point of the front. What a mix really does is for `edge measure` to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.errors import UsageError
from quant.onnx_weights import fits, rounded, size_bytes
from quant.planning import expected
from quant.resolve import Choice
from quant.subject import Item, Subject, load_editor
from quant.values import Values
from runtime.backends.ggml import Ggml

Float32 = NDArray[np.float32]
By = Literal["weights", "sound"]

# Most precise first.
_MATRIX = ("float", "f16", "w8a16", "w4f")
_OTHER = ("float", "f16", "w8a16")
_BLOCKS = ("float", "w8", "w4")
_GGUF = ("q8_0", "q6_K", "q5_K", "q4_K", "q3_K")
_N_FRAMES = 12


@dataclass(frozen=True, slots=True)
class Option:
    """One precision of one weight: bytes in the file, damage to the whole."""

    precision: str
    size_bytes: int
    damage: float


@dataclass(frozen=True, slots=True)
class Point:
    """One state of the search. size_bytes: of all weights. damage: noise over signal, summed."""

    size_bytes: int
    damage: float
    changed: str


@dataclass(frozen=True, slots=True)
class Found:
    """precisions: weight -> what it becomes. front: from everything precise to the smallest."""

    precisions: Mapping[str, str]
    size_bytes: int
    damage: float
    front: tuple[Point, ...]


def options_of(
    subject: Subject, *, by: By = "weights",
    on_progress: Callable[[str, int, int], None] = lambda *_: None,
) -> dict[str, list[Option]]:  # fmt: skip
    """Size and damage of every precision that every weight can take, most precise first."""
    values = Values(subject)
    ggml = Ggml() if any(item.part.engine == "gguf" for item in subject.items) else None
    heard = _decoder_damage(subject) if by == "sound" and subject.section == "mimi" else None
    found = {}
    for done, item in enumerate(subject.items):
        on_progress("measuring sensitivity", done, len(subject.items))
        options = []
        for precision in _known(item, ggml):
            n_bytes = _bytes(item, precision, ggml)
            if precision == "float":
                damage = 0.0
            elif heard is not None and item.part.name == "decoder":
                damage = heard(item, precision, values.read(item))
            else:
                signal, noise = expected(Choice(item, precision, n_bytes), values)
                damage = noise / signal if signal else 0.0
            options.append(Option(precision, n_bytes, damage))
        found[item.label] = options
    on_progress("measuring sensitivity", len(subject.items), len(subject.items))
    return found


def solve(options: Mapping[str, Sequence[Option]], target_bytes: int) -> Found:
    """The mix of least damage that is at most so large. Raises UsageError where none is."""
    at = dict.fromkeys(options, 0)
    size = sum(one[0].size_bytes for one in options.values())
    damage = sum(one[0].damage for one in options.values())
    front = [Point(size, damage, "")]
    chosen = (dict(at), size, damage) if size <= target_bytes else None
    while True:
        step = _cheapest(options, at)
        if step is None:
            break
        label, to = step
        before, after = options[label][at[label]], options[label][to]
        at[label] = to
        size += after.size_bytes - before.size_bytes
        damage += after.damage - before.damage
        front.append(Point(size, damage, label))
        if chosen is None and size <= target_bytes:
            chosen = (dict(at), size, damage)
    if chosen is None:
        raise UsageError(
            f"no mix is so small: the smallest has {size} bytes of weights, asked for were "
            f"{target_bytes}"
        )
    places, size, damage = chosen
    precisions = {label: options[label][i].precision for label, i in places.items()}
    return Found(precisions, size, damage, tuple(front))


def as_recipe(found: Found, section: str, name: str) -> str:
    """The mix as a recipe: a rule for each weight, those alike together."""
    lines = [
        f'name = "{name}"',
        'about = "Found by edge quantize search."',
        "",
    ]
    by_precision: dict[str, list[str]] = {}
    for label, precision in found.precisions.items():
        by_precision.setdefault(precision, []).append(re.escape(label))
    for precision, labels in by_precision.items():
        lines += [f"[[{section}]]", f"match = '{'|'.join(labels)}'", f'to = "{precision}"']
    return "\n".join(lines) + "\n"


def _cheapest(
    options: Mapping[str, Sequence[Option]], at: Mapping[str, int]
) -> tuple[str, int] | None:
    """The change that costs least for a byte saved: (weight, its next option)."""
    best: tuple[float, str, int] | None = None
    for label, found in options.items():
        now = found[at[label]]
        for i in range(at[label] + 1, len(found)):
            saved = now.size_bytes - found[i].size_bytes
            if saved <= 0:
                continue
            price = (found[i].damage - now.damage) / saved
            if best is None or (price, label) < best[:2]:
                best = (price, label, i)
    return None if best is None else best[1:]


def _known(item: Item, ggml: Ggml | None) -> list[str]:
    if item.weight is None:
        assert ggml is not None
        wide = item.shape[-1]
        return [kind for kind in _GGUF if ggml.fits(kind, wide)] or ["f16"]
    if item.part.engine == "blocks":
        wide_enough = item.weight.kind == "matmul" and item.weight.shape[0] % 32 == 0
        return list(_BLOCKS) if wide_enough else ["float"]
    if item.weight.kind == "search":
        return ["float"]
    names = _MATRIX if item.weight.kind == "matmul" else _OTHER
    return [name for name in names if fits(item.weight, name)]


def _bytes(item: Item, precision: str, ggml: Ggml | None) -> int:
    if item.weight is None:
        assert ggml is not None
        return ggml.row_bytes(precision, item.shape[-1]) * (item.n_values // item.shape[-1])
    if item.part.engine == "blocks" and precision != "float":
        return item.n_values // 32 * (4 + (32 if precision == "w8" else 16))
    return size_bytes(item.weight, precision)


def _decoder_damage(subject: Subject) -> Callable[[Item, str, Float32], float]:
    """Noise over signal of the sound that a decoder with one rounded weight makes."""
    from onnx import numpy_helper

    from quant.mimi_compare import decoder_sound

    (part,) = (one for one in subject.parts if one.name == "decoder")
    model = load_editor(part.path).model
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    clean = decoder_sound(subject.path, model, n_frames=_N_FRAMES)
    energy = float(np.square(clean, dtype=np.float64).sum()) or 1.0

    def damage(item: Item, precision: str, values: Float32) -> float:
        assert item.weight is not None
        tensor = tensors[item.name]
        kept = tensor.SerializeToString()
        weight = replace(item.weight)
        after = rounded(weight, values, precision)
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(after), item.name))
        try:
            noisy = decoder_sound(subject.path, model, n_frames=_N_FRAMES)
        finally:
            tensor.ParseFromString(kept)
        return float(np.square(noisy.astype(np.float64) - clean).sum()) / energy

    return damage
