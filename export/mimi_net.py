"""Mimi as torch modules whose state comes in and goes out: one call is one frame, batch of one.

Attention reads its cache and returns only the new keys and values; the host writes them into the
ring and makes the mask and, from integer positions in float64, the rotary angles. So nothing in a
graph depends on how long it has been running.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge.frame import FRAME_SAMPLES
from edge.manifest import TensorSpec
from export.mimi_config import MimiConfig
from export.mimi_layers import (
    Conv,
    Downsampling,
    Looking,
    Residual,
    Searching,
    Spread,
    Transformer,
    Upsampling,
    Weights,
    elu,
)


class MimiEncoder(nn.Module):
    """80 ms of sound to codes: SEANet, transformer, down to one row, codebooks."""

    def __init__(self, weights: Weights, config: MimiConfig, n_codebooks: int) -> None:
        super().__init__()
        self.config, self.n_codebooks = config, n_codebooks
        rows, index = FRAME_SAMPLES, 0
        stages: dict[str, nn.Module] = {"0": Conv(weights, "encoder.model.0.conv.conv", rows)}
        for ratio in reversed(config.ratios):
            for j in range(config.n_residual_layers):
                index += 1
                dilation = config.dilation_base**j
                stages[str(index)] = Residual(weights, f"encoder.model.{index}", rows, dilation)
            index += 2
            stages[str(index)] = Downsampling(weights, f"encoder.model.{index}.conv.conv", rows)
            rows //= ratio
        stages[str(index + 2)] = Conv(weights, f"encoder.model.{index + 2}.conv.conv", rows)
        self.encoder = nn.ModuleDict(stages)
        self.encoder_transformer = Transformer(weights, "encoder_transformer", config)
        if rows > 1:
            self.downsample = Downsampling(weights, "downsample.conv.conv.conv", rows)
        n_semantic = min(n_codebooks, config.n_semantic)
        self.semantic = Searching(weights, "quantizer.rvq_first", n_semantic)
        n_rest = n_codebooks - n_semantic
        self.acoustic = Searching(weights, "quantizer.rvq_rest", n_rest) if n_rest else None

    def inputs(self) -> list[TensorSpec]:
        """Every input of `forward`, in its order."""
        return [
            TensorSpec("pcm", "float32", (FRAME_SAMPLES,)),
            *_shared_inputs(self.config),
            TensorSpec("first", "float32", (1,)),
            *_conv_states(self, "state."),
        ]

    def outputs(self) -> list[TensorSpec]:
        """Every output of `forward`, in its order."""
        states = _conv_states(self, "next.")
        return [TensorSpec("codes", "int64", (self.n_codebooks,)), *_new_kv(self.config), *states]

    def forward(
        self, pcm: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, *rest: Tensor
    ) -> tuple[Tensor, ...]:
        """One frame; the order of tensors is that of `inputs` and `outputs`."""
        n_caches = 2 * self.config.n_layers
        caches, first, before = rest[:n_caches], rest[n_caches], list(rest[n_caches + 1 :])
        kept = []
        x = pcm[:, None]
        for name, stage in self.encoder.items():
            bare = name == "0" or isinstance(stage, Residual)
            x, last = stage(x if bare else elu(x), before.pop(0))
            kept.append(last)
        x, keys, values = self.encoder_transformer(x, cos, sin, mask, caches)
        if self.config.n_positions > 1:
            # Nothing came before the first frame: its first row stands in for what did.
            stand_in = x[:1].repeat(1, self.config.n_positions) * first
            x, last = self.downsample(x, before.pop(0) + stand_in)
            kept.append(last)
        codes = self.semantic(x)
        if self.acoustic is not None:
            codes = torch.cat([codes, self.acoustic(x)])
        return codes, keys, values, *kept


class MimiDecoder(nn.Module):
    """Codes to 80 ms of sound: codebooks, up to positions, transformer, SEANet."""

    def __init__(self, weights: Weights, config: MimiConfig, n_codebooks: int) -> None:
        super().__init__()
        self.config, self.n_codebooks = config, n_codebooks
        self.n_semantic = min(n_codebooks, config.n_semantic)
        self.semantic = Looking(weights, "quantizer.rvq_first", self.n_semantic)
        n_rest = n_codebooks - self.n_semantic
        self.acoustic = Looking(weights, "quantizer.rvq_rest", n_rest) if n_rest else None
        if config.n_positions > 1:
            self.upsample = Spread(weights, "upsample.convtr.convtr.convtr")
        self.decoder_transformer = Transformer(weights, "decoder_transformer", config)
        rows, index = config.n_positions, 0
        stages: dict[str, nn.Module] = {"0": Conv(weights, "decoder.model.0.conv.conv", rows)}
        for ratio in config.ratios:
            index += 2
            stages[str(index)] = Upsampling(weights, f"decoder.model.{index}.convtr.convtr", rows)
            rows *= ratio
            for j in range(config.n_residual_layers):
                index += 1
                dilation = config.dilation_base**j
                stages[str(index)] = Residual(weights, f"decoder.model.{index}", rows, dilation)
        stages[str(index + 2)] = Conv(weights, f"decoder.model.{index + 2}.conv.conv", rows)
        self.decoder = nn.ModuleDict(stages)

    def inputs(self) -> list[TensorSpec]:
        """Every input of `forward`, in its order."""
        codes = TensorSpec("codes", "int64", (self.n_codebooks,))
        return [codes, *_shared_inputs(self.config), *_conv_states(self, "state.")]

    def outputs(self) -> list[TensorSpec]:
        """Every output of `forward`, in its order."""
        states = _conv_states(self, "next.")
        return [TensorSpec("pcm", "float32", (FRAME_SAMPLES,)), *_new_kv(self.config), *states]

    def forward(
        self, codes: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, *rest: Tensor
    ) -> tuple[Tensor, ...]:
        """One frame; the order of tensors is that of `inputs` and `outputs`."""
        n_caches = 2 * self.config.n_layers
        caches, before = rest[:n_caches], list(rest[n_caches:])
        kept = []
        x = self.semantic(codes[: self.n_semantic])
        if self.acoustic is not None:
            x = x + self.acoustic(codes[self.n_semantic :])
        if self.config.n_positions > 1:
            x, last = self.upsample(x, before.pop(0))
            kept.append(last)
        x, keys, values = self.decoder_transformer(x, cos, sin, mask, caches)
        for name, stage in self.decoder.items():
            bare = name == "0" or isinstance(stage, Residual)
            x, last = stage(x if bare else elu(x), before.pop(0))
            kept.append(last)
        return x[:, 0], keys, values, *kept


def _shared_inputs(config: MimiConfig) -> list[TensorSpec]:
    """What both sides read: rotary angles, mask, caches."""
    n, width, layers = config.n_positions, config.head_dim, range(config.n_layers)
    return [
        TensorSpec("rope_cos", "float32", (n, 1, width)),
        TensorSpec("rope_sin", "float32", (n, 1, width)),
        TensorSpec("attn_mask", "float32", (n, 1, config.context + n)),
        *(
            TensorSpec(f"cache_k.{i}", "float32", (config.n_heads, 1, width, config.context))
            for i in layers
        ),
        *(
            TensorSpec(f"cache_v.{i}", "float32", (config.n_heads, 1, config.context, width))
            for i in layers
        ),
    ]


def _new_kv(config: MimiConfig) -> list[TensorSpec]:
    """The keys and values of this frame's positions, all layers."""
    n_heads, n = config.n_layers * config.n_heads, config.n_positions
    return [
        TensorSpec("new_k", "float32", (n_heads, 1, config.head_dim, n)),
        TensorSpec("new_v", "float32", (n_heads, 1, n, config.head_dim)),
    ]


def _conv_states(net: MimiEncoder | MimiDecoder, prefix: str) -> list[TensorSpec]:
    """What convolutions carry from frame to frame, in the order of the computation."""
    found = []
    for name, module in net.named_modules():
        state = getattr(module, "state", None)
        if state is not None and not name.endswith(".narrow"):
            found.append(TensorSpec(f"{prefix}{name}", "float32", state))
    return found
