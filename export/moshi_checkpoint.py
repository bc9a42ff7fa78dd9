"""A multistream checkpoint: every name it may use, checked whole, read one tensor at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import ArtifactError, ShapeError
from edge.safetensors import SafetensorsFile, Tensor, from_float32
from export.moshi_config import (
    LAYER_EPSILON,
    LEGACY,
    LEGACY_DEPTH_HEAD_DIM,
    LEGACY_HEAD_DIM,
    MoshiConfig,
    parse_config,
)
from export.moshi_names import newest_names, official_name

_MAX_NAMED = 6  # of each kind of fault, in one error line
# None stands for a feed-forward width: it is read from the tensor.
Shape = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a tensor is stored: a file, its name there, and which of n equal row blocks it is.

    flat: a norm's scale that is stored without its two leading axes of one.
    """

    file: SafetensorsFile
    name: str
    part: int = 0
    n_parts: int = 1
    flat: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        first, *rest = self.file.entries[self.name].shape or (1,)
        if self.flat:
            return (1, 1, first)
        return (first // self.n_parts, *rest)

    def read(self) -> Tensor:
        whole = self.file.read(self.name)
        if self.flat:
            return Tensor(whole.dtype, whole.array.reshape(1, 1, -1))
        if self.n_parts == 1:
            return whole
        n_rows = whole.array.shape[0] // self.n_parts
        rows = whole.array[self.part * n_rows : (self.part + 1) * n_rows]
        return Tensor(whole.dtype, rows)


class MoshiCheckpoint:
    """The weights of one model under their newest official names, whatever the file calls them.

    LoRA weights, in the same file or in one of their own, are merged as they are read.
    """

    def __init__(
        self, path: Path, raw_config: Mapping[str, Any] | None = None, *, lora: Path | None = None
    ) -> None:
        """Read the headers and compare all names and shapes with what the config asks for.

        raw_config: an official config; without one, or where it has no sizes (PersonaPlex), they
        are those of the published 7B model as far as the shapes leave them open.
        Raises ModelMissingError, ArtifactError, ConfigError, ShapeError.
        """
        self.file = SafetensorsFile(path)
        self.config: MoshiConfig = parse_config(complete_config(self.file, raw_config or {}))
        files = [self.file, *([SafetensorsFile(lora)] if lora else [])]
        self._sources: dict[str, _Source] = {}
        depth = self.config.depth
        schedule = depth.schedule if depth else ()
        depth_sets = depth.n_sets if depth else 0
        for file in files:
            for name, entry in file.entries.items():
                for new, part, n_parts in newest_names(
                    name, schedule=schedule, depth_sets=depth_sets
                ):
                    if new in self._sources:
                        raise ArtifactError(
                            f"{file.path.name}: {name} is a second spelling of {new}; "
                            "the file mixes two checkpoints"
                        )
                    flat = new.endswith(".alpha") and len(entry.shape) == 1
                    self._sources[new] = _Source(file, name, part, n_parts, flat)
        self._low_rank = {name for name in self._sources if ".lora_" in name}
        self._check(path)

    def __contains__(self, name: str) -> bool:
        return name in self._sources

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape."""
        return self._sources[name].shape

    def dtype(self, name: str) -> str:
        """A tensor's type as stored: "F32", "F16" or "BF16"."""
        source = self._sources[name]
        return source.file.entries[source.name].dtype

    def read(self, name: str) -> Tensor:
        """One tensor, with its LoRA part added; kept in the type that it is stored in."""
        base = self._sources[name].read()
        stem = name.removesuffix(".weight")
        if f"{stem}.lora_A.weight" not in self._low_rank:
            return base
        down = self._sources[f"{stem}.lora_A.weight"].read().float32()
        up = self._sources[f"{stem}.lora_B.weight"].read().float32()
        merged = base.float32() + np.float32(self.config.lora_scaling) * (up @ down)
        return Tensor(base.dtype, from_float32(merged, base.dtype))

    def _check(self, path: Path) -> None:
        """Every tensor that is wanted and no other, each of its shape. Raises ShapeError."""
        want = dict(expected_shapes(self.config))
        stored = {name for name in self._sources if name not in self._low_rank}
        missing = sorted(set(want) - stored)
        surplus = sorted(stored - set(want))
        wrong = [
            f"{name} {self.shape(name)} not {_say(shape)}"
            for name, shape in sorted(want.items())
            if name in stored and not _fits(self.shape(name), shape)
        ]
        wrong += self._wrong_widths(stored & set(want)) + self._wrong_low_rank()
        faults = [
            f"{len(found)} {kind} ({', '.join(found[:_MAX_NAMED])}"
            f"{', ...' if len(found) > _MAX_NAMED else ''})"
            for kind, found in (("missing", missing), ("surplus", surplus), ("misshapen", wrong))
            if found
        ]
        if faults:
            raise ShapeError(
                path.name, got="; ".join(faults), want="the tensors of a model of this config"
            )
        for name in sorted(stored):
            if self.dtype(name) not in ("F32", "F16", "BF16"):
                self._sources[name].read()  # raises the error that says what it is

    def _wrong_widths(self, names: set[str]) -> list[str]:
        """Gated feed-forwards whose two halves and output do not agree."""
        return [
            f"{name} {self.shape(name)} for linear_out {self.shape(partner)}"
            for name in sorted(names)
            if name.endswith("linear_in.weight")
            and (partner := name.replace("linear_in", "linear_out")) in names
            and self.shape(name)[0] != 2 * self.shape(partner)[1]
        ]

    def _wrong_low_rank(self) -> list[str]:
        """LoRA parts without a partner, without a base, or of other sizes."""
        bad = []
        for name in sorted(self._low_rank):
            stem, which = name.removesuffix(".weight").rsplit(".lora_", 1)
            other = f"{stem}.lora_{'B' if which == 'A' else 'A'}.weight"
            base = f"{stem}.weight"
            if other not in self._low_rank or base not in self._sources:
                bad.append(f"{name} without its partner or base")
                continue
            up, down = (self.shape(f"{stem}.lora_{side}.weight") for side in "BA")
            if (up[0], down[-1], up[-1]) != (*self.shape(base), down[0]):
                bad.append(f"{name} {self.shape(name)} for {self.shape(base)}")
        return bad


def complete_config(file: SafetensorsFile, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in what a config leaves out from the published 7B model and from the shapes.

    Raises ArtifactError where the tensors are of another family.
    """
    shapes = {
        new: entry.shape for name, entry in file.entries.items() if (new := official_name(name))
    }
    if "text_emb.weight" not in shapes:
        some = ", ".join(sorted(shapes)[:3]) or "none"
        raise ArtifactError(
            f"{file.path.name}: this is no Moshi model (no text_emb.weight; its tensors are "
            f"{some}, ...); want model.safetensors of Moshi, PersonaPlex or Hibiki"
        )
    if "dim" in raw:
        return dict(raw)
    n_q, dep_q = _count(shapes, r"emb\.(\d+)\.weight"), _count(shapes, r"linears\.(\d+)\.weight")
    text_rows, dim = (*shapes["text_emb.weight"], 0, 0)[:2]
    depth_dim = shapes.get("depformer_in.0.weight", (0,))[0]
    derived = {
        "dim": dim,
        "text_card": text_rows - 1,
        "n_q": n_q,
        "dep_q": dep_q,
        "card": shapes.get("emb.0.weight", (0,))[0] - 1,
        "num_heads": max(1, dim // LEGACY_HEAD_DIM),
        "num_layers": _count(shapes, r"transformer\.layers\.(\d+)\..*"),
        "depformer_dim": depth_dim,
        "depformer_num_heads": max(1, depth_dim // LEGACY_DEPTH_HEAD_DIM),
        "depformer_num_layers": _count(shapes, r"depformer\.layers\.(\d+)\..*"),
        # Text, then for each speaker a semantic stream and acoustic ones a frame later.
        "delays": [0, *([0, *[1] * (n_q // 2 - 1)] * 2)] if n_q > 1 and n_q % 2 == 0 else None,
        "model_type": "personaplex" if 0 < dep_q == n_q else "moshi",
    }
    if derived["delays"] is None:
        raise ArtifactError(f"{file.path.name}: {n_q} streams need a --config that has the delays")
    return {**LEGACY, **derived, **raw}


def expected_shapes(config: MoshiConfig) -> Iterator[tuple[str, Shape]]:
    """Newest official name and shape of every tensor that a model of this config has."""
    dim = config.dim
    yield from _embedding("text_emb", config.text_card + 1, dim, norm=config.norm_emb)
    for i in range(config.n_q):
        yield from _embedding(f"emb.{i}", config.card + 1, dim, norm=config.norm_emb)
    for layer in range(config.n_layers):
        prefix = f"transformer.layers.{layer}"
        yield f"{prefix}.self_attn.in_projs.0.weight", (dim + 2 * config.kv_dim, dim)
        yield f"{prefix}.self_attn.out_projs.0.weight", (dim, dim)
        yield f"{prefix}.norm1.alpha", (1, 1, dim)
        yield f"{prefix}.norm2.alpha", (1, 1, dim)
        yield f"{prefix}.gating.linear_in.weight", (None, dim)
        yield f"{prefix}.gating.linear_out.weight", (dim, None)
    yield "out_norm.alpha", (1, 1, dim)
    yield "text_linear.weight", (config.text_card_out, dim)
    for i in range(config.n_extra_heads):
        yield f"extra_heads.{i}.weight", (config.extra_head_dim, dim)
    for cond in config.conditioners:
        prefix = f"condition_provider.conditioners.{cond.name}"
        yield f"{prefix}.embed.weight", (cond.n_bins + 1, cond.dim)
        yield f"{prefix}.output_proj.weight", (dim, cond.dim)
        if cond.learn_padding:
            yield f"{prefix}.learnt_padding", (1, 1, dim)
    if config.depth is not None:
        yield from _depth_shapes(config)


def _depth_shapes(config: MoshiConfig) -> Iterator[tuple[str, Shape]]:
    depth = config.depth
    if depth is None:
        return
    dim, kv_dim = depth.dim, depth.dim // depth.kv_repeat
    for i in range(depth.n_inputs):
        yield f"depformer_in.{i}.weight", (dim, config.dim)
    sizes = {"depformer_text_emb": config.text_card + 1}
    sizes |= {f"depformer_emb.{k}": config.card + 1 for k in range(config.dep_q - 1)}
    for name, n_rows in sizes.items():
        yield from _embedding(name, n_rows, depth.low_rank or dim, norm=config.norm_emb)
        if depth.low_rank:
            yield f"{name}.low_rank.weight", (dim, depth.low_rank)
    for layer in range(depth.n_layers):
        prefix = f"depformer.layers.{layer}"
        for i in range(depth.n_sets):
            yield f"{prefix}.self_attn.in_projs.{i}.weight", (dim + 2 * kv_dim, dim)
            yield f"{prefix}.self_attn.out_projs.{i}.weight", (dim, dim)
            yield f"{prefix}.gating.{i}.linear_in.weight", (None, dim)
            yield f"{prefix}.gating.{i}.linear_out.weight", (dim, None)
        yield f"{prefix}.norm1.alpha", (1, 1, dim)
        yield f"{prefix}.norm2.alpha", (1, 1, dim)
    for k in range(config.dep_q):
        yield f"linears.{k}.weight", (config.card, dim)
        if depth.out_norm in LAYER_EPSILON:
            yield f"depformer_norms.{k}.weight", (dim,)
            yield f"depformer_norms.{k}.bias", (dim,)
        elif depth.out_norm:
            yield f"depformer_norms.{k}.alpha", (1, 1, dim)


def _embedding(name: str, n_rows: int, width: int, *, norm: bool) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (n_rows, width)
    if norm:
        yield f"{name}.norm.weight", (width,)
        yield f"{name}.norm.bias", (width,)


def _count(shapes: Mapping[str, object], pattern: str) -> int:
    """How many indices 0, 1, 2, ... a pattern's first group takes."""
    compiled = re.compile(pattern)
    found = {int(m[1]) for name in shapes if (m := compiled.fullmatch(name))}
    return len(found)


def _fits(got: tuple[int, ...], want: Shape) -> bool:
    return len(got) == len(want) and all(
        w is None or g == w for g, w in zip(got, want, strict=True)
    )


def _say(shape: Shape) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
