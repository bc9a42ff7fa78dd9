"""The parts of Mimi as torch modules without hidden state: tensors in, tensors and new state out.

Everything is channels-last, (time, channels), and every convolution is a matrix product, so that
the exported graphs hold no operator that a quantizer cannot handle. Where there are many rows the
taps of a kernel are computed side by side and added with an offset: that moves less memory than
gathering the rows that each tap sees.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.mimi_config import MimiConfig

Weights = Mapping[str, Tensor]


def elu(x: Tensor) -> Tensor:
    """The exponential linear unit: above 0 exp(x) - 1 exceeds x. Twice as fast as ONNX's Elu."""
    return torch.minimum(torch.exp(x) - 1, torch.relu(x))


class Conv(nn.Module):
    """Causal convolution of stride 1 over rows; its state is the rows before this frame."""

    def __init__(self, weights: Weights, name: str, n_rows: int, *, dilation: int = 1) -> None:
        super().__init__()
        weight = weights[f"{name}.weight"]  # (out, in, kernel)
        self.n_out, n_in, self.kernel = weight.shape
        self.n_rows, self.dilation = n_rows, dilation
        self.n_before = (self.kernel - 1) * dilation
        self.side_by_side = self.n_out <= n_in and n_rows >= 64 * self.n_before > 0
        order = (1, 2, 0) if self.side_by_side else (2, 1, 0)
        shape = (n_in, -1) if self.side_by_side else (-1, self.n_out)
        self.weight = nn.Buffer(weight.permute(order).reshape(shape).contiguous())
        self.bias = nn.Buffer(weights[f"{name}.bias"])
        self.state = (self.n_before, n_in) if self.n_before else None

    def forward(self, x: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(n_rows, in), (n_before, in) -> (n_rows, out), rows to keep."""
        if before is None:
            return x @ self.weight + self.bias, None
        rows = torch.cat([before, x])
        kept = (
            x[self.n_rows - self.n_before :]
            if self.n_rows > self.n_before
            else rows[-self.n_before :]
        )
        starts = range(0, self.kernel * self.dilation, self.dilation)
        if not self.side_by_side:
            taps = [rows[start : start + self.n_rows] for start in starts]
            return torch.cat(taps, 1) @ self.weight + self.bias, kept
        products = torch.split(rows @ self.weight, self.n_out, 1)
        y = products[0][: self.n_rows]
        for product, start in list(zip(products, starts, strict=True))[1:]:
            y = y + product[start : start + self.n_rows]
        return y + self.bias, kept


class Downsampling(nn.Module):
    """Causal convolution with a kernel of two strides: rows become blocks of one stride each."""

    def __init__(self, weights: Weights, name: str, n_rows: int) -> None:
        super().__init__()
        weight = weights[f"{name}.weight"]  # (out, in, 2 * stride)
        self.n_out, self.n_in, kernel = weight.shape
        self.stride = kernel // 2
        self.n_blocks = n_rows // self.stride
        self.weight = nn.Buffer(weight.permute(2, 1, 0).reshape(-1, self.n_out).contiguous())
        bias = weights.get(f"{name}.bias")
        self.bias = nn.Buffer(torch.zeros(self.n_out) if bias is None else bias)
        self.state = (1, self.stride * self.n_in)

    def forward(self, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """(n_blocks * stride, in), the block before -> (n_blocks, out), the last block."""
        blocks = x.reshape(self.n_blocks, self.stride * self.n_in)
        earlier = before if self.n_blocks == 1 else torch.cat([before, blocks[:-1]])
        y = torch.cat([earlier, blocks], 1) @ self.weight + self.bias
        return y, blocks[self.n_blocks - 1 :]


class Upsampling(nn.Module):
    """Transposed convolution with a kernel of two strides, as a product over two input rows."""

    def __init__(self, weights: Weights, name: str, n_rows: int) -> None:
        super().__init__()
        weight = weights[f"{name}.weight"]  # (in, out, 2 * stride)
        n_in, self.n_out, kernel = weight.shape
        self.n_rows, self.stride = n_rows, kernel // 2
        now, later = weight.permute(0, 2, 1).chunk(2, 1)
        self.weight = nn.Buffer(torch.cat([later, now]).reshape(2 * n_in, -1).contiguous())
        self.bias = nn.Buffer(weights[f"{name}.bias"].repeat(self.stride))
        self.state = (1, n_in)

    def forward(self, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """(n_rows, in), the row before -> (n_rows * stride, out), the last row."""
        earlier = before if self.n_rows == 1 else torch.cat([before, x[:-1]])
        y = torch.cat([earlier, x], 1) @ self.weight + self.bias
        return y.reshape(self.n_rows * self.stride, self.n_out), x[self.n_rows - 1 :]


class Spread(nn.Module):
    """Channel-wise transposed convolution of one row: the step from frames to positions."""

    def __init__(self, weights: Weights, name: str) -> None:
        super().__init__()
        weight = weights[f"{name}.weight"][:, 0].T.contiguous()  # (2 * stride, channels)
        self.now, self.later = map(nn.Buffer, weight.chunk(2))
        self.state = (1, weight.shape[1])

    def forward(self, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """(1, channels), the row before -> (stride, channels), this row."""
        return x * self.now + before * self.later, x


class Residual(nn.Module):
    """x + a narrow convolution and a widening one, each after an ELU."""

    def __init__(self, weights: Weights, name: str, n_rows: int, dilation: int) -> None:
        super().__init__()
        self.narrow = Conv(weights, f"{name}.block.1.conv.conv", n_rows, dilation=dilation)
        self.widen = Conv(weights, f"{name}.block.3.conv.conv", n_rows)
        self.state = self.narrow.state

    def forward(self, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor | None]:
        """(n_rows, channels), rows before -> the same, rows to keep."""
        y, kept = self.narrow(elu(x), before)
        y, _ = self.widen(elu(y), None)
        return x + y, kept


class Layer(nn.Module):
    """A pre-norm transformer layer over the n positions of one frame.

    1/sqrt(head_dim) sits in q's weights and the layer scales in the two output projections. A
    rotation of pairs is x * cos + (x @ turn) * sin, turn being a constant of zeros and +-1. Every
    query is a product of its own: for one row onnxruntime streams the cache, for more it copies it.
    """

    def __init__(self, weights: Weights, name: str, config: MimiConfig) -> None:
        super().__init__()
        self.config = config
        q, k, v = weights[f"{name}.self_attn.in_proj_weight"].chunk(3)
        scale = [weights[f"{name}.layer_scale_{i}.scale"] for i in (1, 2)]
        out = weights[f"{name}.self_attn.out_proj.weight"].T * scale[0]
        ff2 = weights[f"{name}.linear2.weight"].T * scale[1]
        self.qkv = nn.Buffer(torch.cat([q * config.head_dim**-0.5, k, v]).T.contiguous())
        self.out = nn.Buffer(out.contiguous())
        self.ff1 = nn.Buffer(weights[f"{name}.linear1.weight"].T.contiguous())
        self.ff2 = nn.Buffer(ff2.contiguous())
        self.norm1_weight = nn.Buffer(weights[f"{name}.norm1.weight"])
        self.norm1_bias = nn.Buffer(weights[f"{name}.norm1.bias"])
        self.norm2_weight = nn.Buffer(weights[f"{name}.norm2.weight"])
        self.norm2_bias = nn.Buffer(weights[f"{name}.norm2.bias"])

    def forward(
        self, x: Tensor, rope: tuple[Tensor, ...], mask: Tensor, cache: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x: (n, width); rope: cos and sin (n, 1, head_dim) and turn.

        cache: keys (heads, 1, head_dim, context) and values (heads, 1, context, head_dim).
        Returns x and the new keys and values, (n, heads, head_dim) each.
        """
        config = self.config
        heads, width, n = config.n_heads, config.dimension, config.n_positions
        normed = functional.layer_norm(x, (width,), self.norm1_weight, self.norm1_bias, 1e-5)
        qk, v = torch.split(normed @ self.qkv, [2 * width, width], 1)
        qk = qk.reshape(n, 2 * heads, config.head_dim)
        cos, sin, turn = rope
        q, k = torch.split(qk * cos + (qk @ turn) * sin, heads, 1)
        v = v.reshape(n, heads, config.head_dim)
        q = q.reshape(n, heads, 1, config.head_dim).transpose(0, 1)
        new_k = k.reshape(n, heads, 1, config.head_dim).permute(1, 2, 3, 0)
        new_v = v.reshape(n, heads, 1, config.head_dim).permute(1, 2, 0, 3)
        scores = torch.cat([q @ cache[0], q @ new_k], 3) + mask
        old_p, new_p = torch.split(torch.softmax(scores, 3), [config.context, n], 3)
        mixed = old_p @ cache[1] + new_p @ new_v  # (heads, n, 1, head_dim)
        x = x + mixed.transpose(0, 1).reshape(n, width) @ self.out
        normed = functional.layer_norm(x, (width,), self.norm2_weight, self.norm2_bias, 1e-5)
        return x + functional.gelu(normed @ self.ff1) @ self.ff2, k, v


class Transformer(nn.Module):
    """The layers of one side; returns their new keys and values stacked."""

    def __init__(self, weights: Weights, name: str, config: MimiConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Layer(weights, f"{name}.transformer.layers.{i}", config) for i in range(config.n_layers)
        )
        # Pairs (real, imaginary) to (-imaginary, real).
        turn = torch.zeros(config.head_dim, config.head_dim)
        even = torch.arange(0, config.head_dim, 2)
        turn[even + 1, even], turn[even, even + 1] = -1.0, 1.0
        self.turn = nn.Buffer(turn)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, caches: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """caches: keys of every layer, then values of every layer.

        Returns x, all new keys (layers * heads, 1, head_dim, n) and all new values.
        """
        keys, values = [], []
        rope = (cos, sin, self.turn)
        for i, layer in enumerate(self.layers):
            x, k, v = layer(x, rope, mask, (caches[i], caches[len(self.layers) + i]))
            keys.append(k)
            values.append(v)
        # Turned into the ring's order once, not layer by layer.
        shape = (len(self.layers), *keys[0].shape)
        new_k = torch.cat(keys).reshape(shape).permute(0, 2, 3, 1).flatten(0, 1)
        new_v = torch.cat(values).reshape(shape).transpose(1, 2).flatten(0, 1)
        return x, new_k[:, None], new_v[:, None]


class Searching(nn.Module):
    """Residual vector quantization of one branch: a row to codes.

    A table is stored once, as (width, bins): the search is one product with it and a code's vector
    is one of its columns. The nearest entry is the one with the largest e.r - |e|^2 / 2.
    """

    def __init__(self, weights: Weights, name: str, n_levels: int) -> None:
        super().__init__()
        self.n_levels = n_levels
        for level in range(n_levels):
            table = entries(weights, name, level)
            self.register_buffer(f"table_{level}", table.T.contiguous())
            self.register_buffer(f"half_norm_{level}", table.square().sum(1) / 2)
        self.inward = nn.Buffer(weights[f"{name}.input_proj.weight"][:, :, 0].T.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """(1, width) -> codes (n_levels,)."""
        codes = []
        residual = x @ self.inward
        for level in range(self.n_levels):
            table = self.get_buffer(f"table_{level}")
            closeness = residual @ table - self.get_buffer(f"half_norm_{level}")
            codes.append(closeness.argmax(1))
            if level + 1 < self.n_levels:
                residual = residual - table.index_select(1, codes[-1]).T
        return torch.cat(codes)


class Looking(nn.Module):
    """The way back: codes of one branch to a row. All levels' entries are rows of one table."""

    def __init__(self, weights: Weights, name: str, n_levels: int) -> None:
        super().__init__()
        tables = [entries(weights, name, level) for level in range(n_levels)]
        self.table = nn.Buffer(torch.cat(tables))
        self.first = nn.Buffer(torch.arange(n_levels) * len(tables[0]))
        self.outward = nn.Buffer(weights[f"{name}.output_proj.weight"][:, :, 0].T.contiguous())

    def forward(self, codes: Tensor) -> Tensor:
        """Codes (n_levels,) -> (1, width)."""
        return self.table.index_select(0, codes + self.first).sum(0, keepdim=True) @ self.outward


def entries(weights: Weights, name: str, level: int) -> Tensor:
    """The vectors of one codebook, (bins, width): sums over how often each was used."""
    prefix = f"{name}.vq.layers.{level}._codebook"
    usage = weights[f"{prefix}.cluster_usage"].clamp(min=1e-5)
    return weights[f"{prefix}.embedding_sum"] / usage[:, None]
