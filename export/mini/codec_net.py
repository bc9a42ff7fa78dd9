"""The codec for training: whole batches in torch, under the official names and shapes.

Parameters lie in one flat table, so what is trained is at once a checkpoint of the official layout.
Convolutions are trained with a weight norm that `official_weights` folds in. Kept in float32
always: under bfloat16 autocast torch's CPU kernel gives ConvTranspose1d a wrong input gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.checkpoint import weight_shapes
from export.mimi_config import MimiConfig
from export.mini.quantizer import Quantized, Quantizer

_LAYER_SCALE = 0.1
# Speech is far quieter than the unit scale that an optimizer's steps suit: without this factor
# one step moves the output's level by several percent and its offset far above the loss's floor.
_OUT_LEVEL = 0.05


class CodecNet(nn.Module):
    """Sound to latents, codes and back, for batches of crops."""

    def __init__(self, config: MimiConfig, seed: int) -> None:
        super().__init__()
        self.config = config
        generator = torch.Generator().manual_seed(seed)
        self.values = nn.ParameterDict()
        self._measuring = False
        per_ratio = 2 + config.n_residual_layers
        self._last = f"decoder.model.{per_ratio * len(config.ratios) + 2}.conv.conv"
        for name, shape in weight_shapes(config).items():
            if name.startswith("quantizer."):
                continue
            value = _start_value(name, shape, generator)
            self.values[_key(name)] = nn.Parameter(value)
            if _is_conv(name):
                self.values[_key(f"{name}:gain")] = nn.Parameter(_norms(value, name))
        self.quantizer = Quantizer(config, generator)

    def encode(self, pcm: Tensor) -> Tensor:
        """(batch, samples), a multiple of 1920, to latents (batch, dimension, frames)."""
        x, index = self._conv("encoder.model.0.conv.conv", pcm[:, None]), 0
        for ratio in reversed(self.config.ratios):
            for j in range(self.config.n_residual_layers):
                index += 1
                x = self._residual(f"encoder.model.{index}", x, self.config.dilation_base**j)
            index += 2
            name = f"encoder.model.{index}.conv.conv"
            x = self._conv(name, functional.elu(x), stride=ratio)
        x = self._conv(f"encoder.model.{index + 2}.conv.conv", functional.elu(x))
        x = self._transformer("encoder_transformer", x)
        positions = self.config.n_positions
        if positions == 1:
            return x
        x = torch.cat([x[:, :, :1].expand(-1, -1, positions), x], 2)
        return self._plain("downsample.conv.conv.conv", x, stride=positions)

    def decode(self, latent: Tensor) -> Tensor:
        """Quantized latents (batch, dimension, frames) to (batch, samples)."""
        x = latent
        if self.config.n_positions > 1:
            weight = self._value("upsample.convtr.convtr.convtr.weight")
            positions = self.config.n_positions
            x = functional.conv_transpose1d(x, weight, stride=positions, groups=x.shape[1])
            x = self._measured("upsample.convtr.convtr.convtr", x)[:, :, :-positions]
        x = self._transformer("decoder_transformer", x)
        x, index = self._conv("decoder.model.0.conv.conv", x), 0
        for ratio in self.config.ratios:
            index += 2
            name = f"decoder.model.{index}.convtr.convtr"
            weight, bias = self._value(f"{name}.weight"), self.values[_key(f"{name}.bias")]
            x = functional.conv_transpose1d(functional.elu(x), weight, bias, stride=ratio)
            x = self._measured(name, x)[:, :, :-ratio]
            for j in range(self.config.n_residual_layers):
                index += 1
                x = self._residual(f"decoder.model.{index}", x, self.config.dilation_base**j)
        return self._conv(f"decoder.model.{index + 2}.conv.conv", functional.elu(x))[:, 0]

    def forward(self, pcm: Tensor, *, quantize: bool) -> tuple[Tensor, Quantized]:
        """(batch, samples) to the same, and what the quantizer did (without it: passed through)."""
        quantized = self.quantizer(self.encode(pcm), quantize=quantize)
        return self.decode(quantized.latent), quantized

    @torch.no_grad()
    def fit_scales(self, pcm: Tensor) -> None:
        """Make every convolution give unit deviation on this batch, and the last one the signal's.

        Without it the latent hardly varies in time and the decoder learns one average spectrum.
        """
        self._measuring = True
        try:
            out, _ = self(pcm, quantize=False)
            self.values[_key(f"{self._last}.weight:gain")] *= pcm.std() / out.std().clamp(min=1e-6)
        finally:
            self._measuring = False

    @torch.no_grad()
    def official_weights(self) -> dict[str, Tensor]:
        """Every tensor of the official layout, weight norm folded in."""
        found = {}
        for name in weight_shapes(self.config):
            if not name.startswith("quantizer."):
                found[name] = self._value(name).detach().clone().contiguous()
        return found | self.quantizer.official_weights()

    def _value(self, name: str) -> Tensor:
        """A tensor of the official layout: weight norm and the output's level folded in."""
        value: Tensor = self.values[_key(name)]
        if _is_conv(name):
            value = value * (self.values[_key(f"{name}:gain")] / _norms(value, name))
        return value * _OUT_LEVEL if name.startswith(f"{self._last}.") else value

    def _measured(self, name: str, x: Tensor) -> Tensor:
        """While scales are fitted: divide the weight by what it gives now."""
        if not self._measuring:
            return x
        deviation = x.std((0, 2), correction=0).square().mean().sqrt().clamp(min=1e-6)
        self.values[_key(f"{name}.weight:gain")] /= deviation
        return x / deviation

    def _conv(self, name: str, x: Tensor, *, stride: int = 1, dilation: int = 1) -> Tensor:
        weight = self._value(f"{name}.weight")
        before = (weight.shape[2] - 1) * dilation + 1 - stride
        x = functional.pad(x, (before, 0))
        bias = self._value(f"{name}.bias")
        return self._measured(
            name, functional.conv1d(x, weight, bias, stride=stride, dilation=dilation)
        )

    def _plain(self, name: str, x: Tensor, *, stride: int) -> Tensor:
        """A convolution without bias over rows that are already padded."""
        return self._measured(
            name, functional.conv1d(x, self._value(f"{name}.weight"), stride=stride)
        )

    def _residual(self, name: str, x: Tensor, dilation: int) -> Tensor:
        y = self._conv(f"{name}.block.1.conv.conv", functional.elu(x), dilation=dilation)
        return x + self._conv(f"{name}.block.3.conv.conv", functional.elu(y))

    def _transformer(self, side: str, x: Tensor) -> Tensor:
        """(batch, dimension, positions) through the layers of one side."""
        config, x = self.config, x.transpose(1, 2)
        n = x.shape[1]
        rope = _angles(n, config.head_dim, config.max_period, x.device)
        ages = torch.arange(n, device=x.device)[:, None] - torch.arange(n, device=x.device)
        mask = (ages >= 0) & (ages <= config.context)
        for layer in range(config.n_layers):
            x = self._layer(f"{side}.transformer.layers.{layer}", x, rope, mask)
        return x.transpose(1, 2)

    def _layer(self, name: str, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        config, width = self.config, self.config.dimension
        value = {
            key: self.values[_key(f"{name}.{key}")]
            for key in (
                "self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight",
                "linear2.weight", "norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias",
                "layer_scale_1.scale", "layer_scale_2.scale",
            )
        }  # fmt: skip
        h = functional.layer_norm(x, (width,), value["norm1.weight"], value["norm1.bias"], 1e-5)
        h = functional.linear(h, value["self_attn.in_proj_weight"])
        h = h.reshape(*h.shape[:2], 3, config.n_heads, config.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = turned(h[0], rope), turned(h[1], rope), h[2]
        h = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        h = functional.linear(h.transpose(1, 2).flatten(2), value["self_attn.out_proj.weight"])
        x = x + h * value["layer_scale_1.scale"]
        h = functional.layer_norm(x, (width,), value["norm2.weight"], value["norm2.bias"], 1e-5)
        h = functional.linear(functional.gelu(functional.linear(h, value["linear1.weight"])),
                              value["linear2.weight"])  # fmt: skip
        out: Tensor = x + h * value["layer_scale_2.scale"]
        return out


def _angles(
    n: int, head_dim: int, max_period: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosines and sines (n, head_dim / 2) of rotary positions."""
    powers = torch.arange(head_dim // 2, dtype=torch.float64, device=device) * (2 / head_dim)
    turns = torch.arange(n, dtype=torch.float64, device=device)[:, None] * max_period**-powers
    return turns.cos().float(), turns.sin().float()


def turned(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions on neighbouring pairs of the last axis."""
    real, imaginary = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)
    cos, sin = rope
    pair = [real * cos - imaginary * sin, real * sin + imaginary * cos]
    return torch.stack(pair, -1).flatten(-2)


def _key(name: str) -> str:
    """A table of parameters takes no dots."""
    return name.replace(".", "/")


def _is_conv(name: str) -> bool:
    return name.endswith((".conv.weight", ".convtr.weight"))


def _norms(value: Tensor, name: str) -> Tensor:
    """Length of each output channel's weights, in a shape that divides them."""
    per_input = name.endswith("convtr.weight") and "upsample" not in name
    return value.square().sum((0, 2) if per_input else (1, 2), keepdim=True).sqrt()


def _start_value(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if name.endswith(".scale"):
        return torch.full(shape, _LAYER_SCALE)
    if name.endswith(("norm1.weight", "norm2.weight")):
        return torch.ones(shape)
    if name.endswith(".bias"):
        return torch.zeros(shape)
    n_in = shape[1] if len(shape) == 2 else max(1, shape[1] * shape[2])
    return torch.randn(shape, generator=generator) / math.sqrt(n_in)
