"""The multistream model for training: whole conversations, under official names and shapes.

The structure is Moshi's: all streams' embeddings summed, a temporal transformer over frames with a
text head, and a depth transformer that writes one frame's own codes one after the other with
weights of its own for each. Depth is the dear part, so it is trained on the frames one asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.mini.codec_net import turned

_NORM_EPSILON = 1e-8


@dataclass(frozen=True, slots=True)
class LmSizes:
    """Sizes of the multistream model; widths are multiples of 256 so that every K-quant applies.

    schedule: for each depth step the set of weights it uses. context: attention window in frames.
    """

    dim: int = 256
    n_heads: int = 4
    n_layers: int = 3
    hidden: int = 768
    context: int = 125
    n_own: int = 8
    n_user: int = 8
    card: int = 512
    text_card: int = 512
    depth_dim: int = 256
    depth_heads: int = 4
    depth_layers: int = 1
    depth_hidden: int = 512
    schedule: tuple[int, ...] = (0, 1, 2, 3, 4, 4, 5, 5)

    @property
    def n_streams(self) -> int:
        """Audio streams, own and the user's."""
        return self.n_own + self.n_user

    @property
    def n_sets(self) -> int:
        """Sets of depth weights."""
        return max(self.schedule) + 1

    def delays(self) -> list[int]:
        """Of text, own and user streams, in frames: all but each first codebook come one later."""
        return [0, 0, *[1] * (self.n_own - 1), 0, *[1] * (self.n_user - 1)]

    def official_config(self) -> dict[str, Any]:
        """The config.json that describes this model to any reader of the official layout."""
        return {
            "model_type": "moshi",
            "dim": self.dim,
            "text_card": self.text_card,
            "existing_text_padding_id": 3,
            "n_q": self.n_streams,
            "dep_q": self.n_own,
            "card": self.card,
            "num_heads": self.n_heads,
            "num_layers": self.n_layers,
            "hidden_scale": 1.5 * self.hidden / self.dim,
            "layer_scale": None,
            "context": self.context,
            "max_period": 10_000,
            "gating": "silu",
            "norm": "rms_norm_f32",
            "positional_embedding": "rope",
            "causal": True,
            "delays": self.delays(),
            "depformer_dim": self.depth_dim,
            "depformer_dim_feedforward": self.depth_hidden * 3 // 2,
            "depformer_num_heads": self.depth_heads,
            "depformer_num_layers": self.depth_layers,
            "depformer_multi_linear": True,
            "depformer_pos_emb": "none",
            "depformer_weights_per_step": True,
            "depformer_weights_per_step_schedule": list(self.schedule),
        }


def lm_shapes(sizes: LmSizes) -> dict[str, tuple[int, ...]]:
    """Official name to shape of every tensor."""
    dim, deep = sizes.dim, sizes.depth_dim
    shapes: dict[str, tuple[int, ...]] = {"text_emb.weight": (sizes.text_card + 1, dim)}
    shapes |= {f"emb.{k}.weight": (sizes.card + 1, dim) for k in range(sizes.n_streams)}
    for layer in range(sizes.n_layers):
        prefix = f"transformer.layers.{layer}"
        shapes[f"{prefix}.self_attn.in_projs.0.weight"] = (3 * dim, dim)
        shapes[f"{prefix}.self_attn.out_projs.0.weight"] = (dim, dim)
        shapes[f"{prefix}.norm1.alpha"] = shapes[f"{prefix}.norm2.alpha"] = (1, 1, dim)
        shapes[f"{prefix}.gating.linear_in.weight"] = (2 * sizes.hidden, dim)
        shapes[f"{prefix}.gating.linear_out.weight"] = (dim, sizes.hidden)
    shapes["out_norm.alpha"] = (1, 1, dim)
    shapes["text_linear.weight"] = (sizes.text_card, dim)
    for i in range(sizes.n_sets):
        shapes[f"depformer_in.{i}.weight"] = (deep, dim)
    shapes["depformer_text_emb.weight"] = (sizes.text_card + 1, deep)
    for k in range(sizes.n_own):
        if k + 1 < sizes.n_own:
            shapes[f"depformer_emb.{k}.weight"] = (sizes.card + 1, deep)
        shapes[f"linears.{k}.weight"] = (sizes.card, deep)
    for layer in range(sizes.depth_layers):
        prefix = f"depformer.layers.{layer}"
        for i in range(sizes.n_sets):
            shapes[f"{prefix}.self_attn.in_projs.{i}.weight"] = (3 * deep, deep)
            shapes[f"{prefix}.self_attn.out_projs.{i}.weight"] = (deep, deep)
            shapes[f"{prefix}.gating.{i}.linear_in.weight"] = (2 * sizes.depth_hidden, deep)
            shapes[f"{prefix}.gating.{i}.linear_out.weight"] = (deep, sizes.depth_hidden)
        shapes[f"{prefix}.norm1.alpha"] = shapes[f"{prefix}.norm2.alpha"] = (1, 1, deep)
    return shapes


class LmNet(nn.Module):
    """Delayed token streams to hidden states, text logits and own codes' logits."""

    def __init__(self, sizes: LmSizes, seed: int, dropout: float = 0.0) -> None:
        """dropout: of what each temporal layer adds, while training."""
        super().__init__()
        self.sizes, self.dropout = sizes, nn.Dropout(dropout)
        generator = torch.Generator().manual_seed(seed)
        self.values = nn.ParameterDict()
        for name, shape in lm_shapes(sizes).items():
            value = torch.ones(shape)
            if "emb" in name:
                value = torch.randn(shape, generator=generator) * 0.25
            elif not name.endswith("alpha"):
                value = torch.randn(shape, generator=generator) * shape[-1] ** -0.5
            if name.endswith(("out_projs.0.weight", "linear_out.weight")):
                value *= (2 * sizes.n_layers) ** -0.5
            self.values[name.replace(".", "/")] = nn.Parameter(value)

    def __getitem__(self, name: str) -> Tensor:
        value: Tensor = self.values[name.replace(".", "/")]
        return value

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (batch, 1 + streams, frames), delayed and shifted by one frame.

        Returns the normed hidden states (batch, frames, dim) and text logits.
        """
        sizes = self.sizes
        x = functional.embedding(tokens[:, 0], self["text_emb.weight"])
        for k in range(sizes.n_streams):
            x = x + functional.embedding(tokens[:, 1 + k], self[f"emb.{k}.weight"])
        n = x.shape[1]
        rope = _rope(n, sizes.dim // sizes.n_heads, x.device)
        ages = torch.arange(n, device=x.device)[:, None] - torch.arange(n, device=x.device)
        mask = (ages >= 0) & (ages < sizes.context)
        for layer in range(sizes.n_layers):
            prefix = f"transformer.layers.{layer}"
            h = rms_norm(x, self[f"{prefix}.norm1.alpha"])
            h = functional.linear(h, self[f"{prefix}.self_attn.in_projs.0.weight"])
            h = h.reshape(*h.shape[:2], 3, sizes.n_heads, -1).permute(2, 0, 3, 1, 4)
            h = functional.scaled_dot_product_attention(
                turned(h[0], rope), turned(h[1], rope), h[2], attn_mask=mask
            )
            h = h.transpose(1, 2).flatten(2)
            h = functional.linear(h, self[f"{prefix}.self_attn.out_projs.0.weight"])
            x = x + self.dropout(h)
            h = rms_norm(x, self[f"{prefix}.norm2.alpha"])
            gate, up = functional.linear(h, self[f"{prefix}.gating.linear_in.weight"]).chunk(2, -1)
            h = functional.silu(gate) * up
            x = x + self.dropout(functional.linear(h, self[f"{prefix}.gating.linear_out.weight"]))
        hidden = rms_norm(x, self["out_norm.alpha"])
        return hidden, functional.linear(hidden, self["text_linear.weight"])

    def depth(self, hidden: Tensor, text: Tensor, codes: Tensor) -> Tensor:
        """Logits (rows, n_own, card) of own codes, each given the ones before it.

        hidden: (rows, dim) of some frames. text: (rows,) their text tokens. codes: (rows, n_own).
        """
        sizes = self.sizes
        before = [functional.embedding(text, self["depformer_text_emb.weight"])]
        before += [
            functional.embedding(codes[:, k], self[f"depformer_emb.{k}.weight"])
            for k in range(sizes.n_own - 1)
        ]
        # (steps, rows, depth_dim) throughout: one matrix product a step.
        x = torch.stack(before) + torch.bmm(
            hidden.expand(sizes.n_own, -1, -1), self._stepwise("depformer_in.{}.weight")
        )
        for layer in range(sizes.depth_layers):
            prefix = f"depformer.layers.{layer}"
            h = rms_norm(x, self[f"{prefix}.norm1.alpha"])
            h = torch.bmm(h, self._stepwise(f"{prefix}.self_attn.in_projs.{{}}.weight"))
            h = h.reshape(*h.shape[:2], 3, sizes.depth_heads, -1).permute(2, 1, 3, 0, 4)
            h = functional.scaled_dot_product_attention(h[0], h[1], h[2], is_causal=True)
            h = h.permute(2, 0, 1, 3).flatten(2)
            x = x + torch.bmm(h, self._stepwise(f"{prefix}.self_attn.out_projs.{{}}.weight"))
            h = rms_norm(x, self[f"{prefix}.norm2.alpha"])
            both = torch.bmm(h, self._stepwise(f"{prefix}.gating.{{}}.linear_in.weight"))
            gate, up = both.chunk(2, -1)
            h = functional.silu(gate) * up
            x = x + torch.bmm(h, self._stepwise(f"{prefix}.gating.{{}}.linear_out.weight"))
        heads = torch.stack([self[f"linears.{k}.weight"].T for k in range(sizes.n_own)])
        return torch.bmm(x, heads).transpose(0, 1)

    def _stepwise(self, pattern: str) -> Tensor:
        """The matrix of every depth step, (steps, in, out)."""
        return torch.stack([self[pattern.format(i)].T for i in self.sizes.schedule])

    @torch.no_grad()
    def official_weights(self) -> dict[str, Tensor]:
        """Every tensor of the official layout."""
        names = lm_shapes(self.sizes)
        return {name: self[name].detach().clone().contiguous() for name in names}


def rms_norm(x: Tensor, alpha: Tensor) -> Tensor:
    """Root-mean-square norm with the model's epsilon."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + _NORM_EPSILON) * alpha.flatten()


def _rope(n: int, head_dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    powers = torch.arange(head_dim // 2, dtype=torch.float64, device=device) * (2 / head_dim)
    angles = torch.arange(n, dtype=torch.float64, device=device)[:, None] * 10_000.0**-powers
    return angles.cos().float(), angles.sin().float()


def delayed(tokens: Tensor, sizes: LmSizes) -> Tensor:
    """Aligned streams (batch, 1 + streams, frames) to delayed ones behind an initial column.

    Column 0 is all initial tokens; stream k's frame t stands in column t + 1 + delay. Frames that
    a delay pushes out at the end are dropped: the result has frames + 1 columns.
    """
    batch, n_rows, n = tokens.shape
    out = torch.full((batch, n_rows, n + 1), sizes.card, dtype=tokens.dtype, device=tokens.device)
    out[:, 0] = sizes.text_card
    for row, delay in enumerate(sizes.delays()):
        out[:, row, 1 + delay :] = tokens[:, row, : n - delay]
    return out
