"""What the same tensor is called in the layouts that checkpoints are published in.

PyTorch's names, older and newer, are the official ones. Candle's and MLX's files have a depth
transformer slice by slice, each with copies of what several slices share.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_STACKED = re.compile(r"^(.*\.self_attn)\.(in|out)_proj(?:_weight|\.weight|\.(lora_[AB])\.weight)$")
_SLICE = re.compile(r"^depformer\.(?:slices\.)?(\d+)\.(.+)$")
_SLICE_LAYER = re.compile(r"^transformer\.layers\.(\d+)\.(norm[12]|self_attn|gating)\.(.+)$")
_MLX_NORM = re.compile(r"^(transformer\.layers\.\d+\.norm[12]|out_norm)\.weight$")


def newest_names(
    name: str, *, schedule: Sequence[int] = (), depth_sets: int = 0
) -> Iterator[tuple[str, int, int]]:
    """The newest official spelling of a stored tensor: name, part, number of parts.

    Parts are equal blocks of rows, where one stored tensor stacks several. Nothing for a copy of a
    tensor that another slice holds. schedule: the set of weights of each depth step, empty where
    each has its own. depth_sets: how many sets there are, 0 where there is no depth transformer.
    """
    official = official_name(name, schedule)
    if official is None:
        return
    match = _STACKED.match(official)
    if match is None:
        yield official.replace(".frozen_W.weight", ".weight"), 0, 1
        return
    prefix, side, low_rank = match.groups()
    n_sets = depth_sets if depth_sets and prefix.startswith("depformer.") else 1
    tail = f"{low_rank}.weight" if low_rank else "weight"
    for part in range(n_sets):
        yield f"{prefix}.{side}_projs.{part}.{tail}", part, n_sets


def official_name(name: str, schedule: Sequence[int] = ()) -> str | None:
    """An official spelling of a name of any layout; None for a copy that another slice holds."""
    name = re.sub(r"^audio_embs\.", "emb.", name)
    name = _MLX_NORM.sub(r"\1.alpha", name)
    match = _SLICE.match(name)
    if match is None:
        return name
    step, rest = int(match[1]), match[2]
    index = schedule[step] if step < len(schedule) else step
    is_first = index not in schedule[:step] if step < len(schedule) else True
    if rest == "linear_out.weight":
        return f"linears.{step}.weight"
    if rest.startswith("emb."):
        table = "depformer_text_emb" if step == 0 else f"depformer_emb.{step - 1}"
        return table + rest.removeprefix("emb")
    if rest == "linear_in.weight":
        return f"depformer_in.{index}.weight" if is_first else None
    layer = _SLICE_LAYER.match(rest)
    if layer is None:
        return name
    prefix, part, tail = f"depformer.layers.{layer[1]}", layer[2], layer[3]
    if part.startswith("norm"):  # shared by all slices
        return f"{prefix}.{part}.alpha" if step == 0 else None
    if not is_first:
        return None
    if part == "gating":
        return f"{prefix}.gating.{index}.{tail}"
    side = tail.partition("_proj")[0]
    return f"{prefix}.self_attn.{side}_projs.{index}.weight"
