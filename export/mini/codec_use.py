"""A trained codec in torch: sound to codes and back, whole pieces at a time, and its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge.frame import FRAME_SAMPLES, Pcm
from edge.hashing import sha256_of
from export.mimi_config import MimiConfig
from export.mini.checkpoints import RunState, load_run
from export.mini.codec_net import CodecNet
from export.mini.codec_train import CodecRecipe, Trainee


class TrainedCodec:
    """The net of a checkpoint, for encoding many pieces."""

    def __init__(self, net: CodecNet, name: str, device: str = "cpu") -> None:
        self.net, self.name, self.device = net.eval().to(device), name, device

    @torch.no_grad()
    def encode(self, pcm: Pcm) -> NDArray[np.int64]:
        """float32 (samples,), whole frames of a stream of its own, to codes (8, frames)."""
        batch = torch.from_numpy(np.ascontiguousarray(pcm))[None].to(self.device)
        codes = self.net.quantizer(self.net.encode(batch), quantize=True).codes
        return np.asarray(codes[0].cpu().numpy(), np.int64)

    @torch.no_grad()
    def decode(self, codes: NDArray[np.int64]) -> Pcm:
        """Codes (8, frames) to float32 (frames * 1920,)."""
        batch = torch.from_numpy(np.ascontiguousarray(codes))[None].to(self.device)
        pcm = self.net.decode(self.net.quantizer.decode(batch))
        return np.asarray(pcm[0].cpu().numpy(), np.float32)[: codes.shape[1] * FRAME_SAMPLES]


def open_codec(path: Path, recipe: CodecRecipe, device: str = "cpu") -> TrainedCodec:
    """The codec of a checkpoint, named after its hash. Raises ModelDamagedError."""
    net = Trainee(recipe)
    load_run(path, net)
    return TrainedCodec(net.codec, sha256_of(path)[:12], device)


def codec_state(path: Path, recipe: CodecRecipe) -> RunState:
    """How a checkpoint was trained."""
    return load_run(path, Trainee(recipe))


def official_codec_config(sizes: MimiConfig) -> dict[str, Any]:
    """The config that describes a codec of these sizes to any reader of the official layout."""
    return {
        "sample_rate": 24_000,
        "channels": 1,
        "frame_rate": 12.5,
        "seanet": {
            "channels": 1,
            "dimension": sizes.dimension,
            "causal": True,
            "n_filters": sizes.n_filters,
            "n_residual_layers": sizes.n_residual_layers,
            "activation": "ELU",
            "compress": sizes.compress,
            "dilation_base": sizes.dilation_base,
            "disable_norm_outer_blocks": 0,
            "kernel_size": sizes.kernel_size,
            "residual_kernel_size": sizes.residual_kernel_size,
            "last_kernel_size": sizes.last_kernel_size,
            "norm": "none",
            "pad_mode": "constant",
            "ratios": list(sizes.ratios),
            "true_skip": True,
        },
        "quantizer": {
            "dimension": sizes.codebook_dim,
            "n_q": sizes.n_codebooks,
            "n_q_semantic": sizes.n_semantic,
            "bins": sizes.bins,
            "input_dimension": sizes.dimension,
            "output_dimension": sizes.dimension,
        },
        "transformer": {
            "d_model": sizes.dimension,
            "num_heads": sizes.n_heads,
            "num_layers": sizes.n_layers,
            "causal": True,
            "layer_scale": 0.01,
            "context": sizes.context,
            "conv_layout": True,
            "max_period": sizes.max_period,
            "gating": "none",
            "norm": "layer_norm",
            "positional_embedding": "rope",
            "dim_feedforward": sizes.feedforward,
            "input_dimension": sizes.dimension,
            "output_dimensions": [sizes.dimension],
        },
    }
