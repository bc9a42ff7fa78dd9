"""Random weights of a codec's shape that keep a signal's size: for speed and tests, not sound."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export.checkpoint import weight_shapes
from export.mimi_config import MimiConfig

if TYPE_CHECKING:
    import torch


def random_weights(config: MimiConfig, seed: int) -> dict[str, torch.Tensor]:
    """Official names to float32 tensors: unit gain, layer scales that matter, codebooks in use."""
    import torch

    rng = np.random.default_rng(seed)
    shapes = weight_shapes(config)
    last = _last_conv(shapes)
    weights = {}
    for name, shape in shapes.items():
        values = rng.standard_normal(shape)
        if name.endswith(("norm1.weight", "norm2.weight")):
            values = 1 + 0.1 * values
        elif name.endswith(".scale"):
            values = rng.uniform(0.1, 0.3, shape)
        elif name.endswith("cluster_usage"):
            values = rng.uniform(0.5, 2.0, shape)
        elif name.endswith("embedding_sum"):
            values *= 0.5
        elif len(shape) == 1:
            values *= 0.05
        elif "convtr" in name:
            # Two inputs reach every output of a transposed convolution.
            values /= (2 * shape[0] if shape[1] > 1 else 2) ** 0.5
        else:
            values /= np.prod(shape[1:]) ** 0.5
        weights[name] = torch.from_numpy(np.asarray(values, np.float32))
    weights["encoder.model.0.conv.conv.weight"] *= 10  # speech is quiet
    weights[last] *= 0.1
    return weights


def write_random_checkpoint(path: Path, config: MimiConfig, seed: int) -> None:
    """Save random weights as a safetensors file in the official layout, codebooks initialised."""
    import torch
    from safetensors.torch import save_file

    from edge.atomic import atomic_path

    weights = random_weights(config, seed)
    for name in [name for name in weights if name.endswith(".cluster_usage")]:
        weights[name.replace("cluster_usage", "_initialized")] = torch.ones(1)
    with atomic_path(path) as part:
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, part)


def _last_conv(shapes: dict[str, tuple[int, ...]]) -> str:
    """The convolution that gives the samples."""
    convs = [name for name in shapes if name.startswith("decoder.model.") and "conv.weight" in name]
    return max(convs, key=lambda name: int(name.split(".")[2]))
