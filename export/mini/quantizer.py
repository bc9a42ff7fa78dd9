"""The split residual quantizer: codebooks fitted by residual k-means, gradients passed straight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.mimi_config import MimiConfig

_EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class Quantized:
    """latent: (batch, dimension, frames), with gradients as if nothing was rounded.

    content: the semantic branch's share of it. codes: (batch, codebooks, frames), -1 without
    rounding.
    """

    latent: Tensor
    content: Tensor
    codes: Tensor


class Quantizer(nn.Module):
    """One semantic codebook beside a residual chain of acoustic ones."""

    def __init__(self, config: MimiConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        width, narrow = config.dimension, config.codebook_dim
        self.inward = nn.ParameterList(
            torch.randn(narrow, width, generator=generator) * width**-0.5 for _ in range(2)
        )
        self.outward = nn.ParameterList(
            torch.randn(width, narrow, generator=generator) * narrow**-0.5 for _ in range(2)
        )
        shape = (config.n_codebooks, config.bins)
        self.sums = nn.Buffer(torch.randn(*shape, narrow, generator=generator))
        self.usage = nn.Buffer(torch.ones(shape))

    def levels(self, branch: int) -> range:
        """The codebooks of the semantic (0) or the acoustic (1) branch."""
        n_semantic = self.config.n_semantic
        return range(n_semantic) if branch == 0 else range(n_semantic, self.config.n_codebooks)

    def entries(self, level: int) -> Tensor:
        """The vectors of a codebook, (bins, codebook_dim)."""
        return self.sums[level] / self.usage[level, :, None].clamp(min=_EPSILON)

    def forward(self, latent: Tensor, *, quantize: bool) -> Quantized:
        """(batch, dimension, frames) through the projections, and through the codebooks."""
        rows = latent.transpose(1, 2)
        parts, codes = [], []
        for branch in range(2):
            narrow = functional.linear(rows, self.inward[branch])
            if quantize:
                narrow, found = self._chain(narrow, branch)
                codes += found
            parts.append(functional.linear(narrow, self.outward[branch]).transpose(1, 2))
        shape = (len(rows), self.config.n_codebooks, rows.shape[1])
        stacked = torch.stack(codes, 1) if codes else torch.full(shape, -1)
        return Quantized(parts[0] + parts[1], parts[0], stacked)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (batch, codebooks, frames) to latents (batch, dimension, frames)."""
        total: Tensor | None = None
        for branch in range(2):
            found = [self.entries(level)[codes[:, level]] for level in self.levels(branch)]
            rows = torch.stack(found).sum(0)
            part = functional.linear(rows, self.outward[branch]).transpose(1, 2)
            total = part if total is None else total + part
        assert total is not None
        return total

    def _chain(self, x: Tensor, branch: int) -> tuple[Tensor, list[Tensor]]:
        """Round (batch, frames, narrow) level by level; gradients pass straight through."""
        residual, total, codes = x.detach(), torch.zeros_like(x), []
        for level in self.levels(branch):
            table = self.entries(level)
            codes.append(nearest(residual, table))
            residual, total = residual - table[codes[-1]], total + table[codes[-1]]
        return x + (total - x).detach(), codes

    @torch.no_grad()
    def start(self, latent: Tensor, n_rounds: int = 12) -> None:
        """Fit all codebooks to latents (1, dimension, many) by residual k-means."""
        rows = latent.transpose(1, 2)
        for branch in range(2):
            residual = functional.linear(rows, self.inward[branch]).flatten(0, 1)
            for level in self.levels(branch):
                table, counts = k_means(residual, self.config.bins, n_rounds)
                self.usage[level] = counts.clamp(min=1e-3)
                self.sums[level] = table * self.usage[level, :, None]
                residual = residual - table[nearest(residual, table)]

    @torch.no_grad()
    def official_weights(self) -> dict[str, Tensor]:
        """Projections and codebooks under their official names."""
        found = {}
        for branch, name in enumerate(("rvq_first", "rvq_rest")):
            found[f"quantizer.{name}.input_proj.weight"] = self.inward[branch][:, :, None].clone()
            found[f"quantizer.{name}.output_proj.weight"] = self.outward[branch][:, :, None].clone()
            for place, level in enumerate(self.levels(branch)):
                prefix = f"quantizer.{name}.vq.layers.{place}._codebook"
                found[f"{prefix}.embedding_sum"] = self.sums[level].clone()
                found[f"{prefix}.cluster_usage"] = self.usage[level].clone()
                found[f"{prefix}._initialized"] = torch.ones(1)
        return {name: value.detach().contiguous() for name, value in found.items()}


def nearest(rows: Tensor, table: Tensor) -> Tensor:
    """The entry that lies closest to each row."""
    return (rows @ table.T - table.square().sum(1) / 2).argmax(-1)


def k_means(rows: Tensor, n: int, n_rounds: int) -> tuple[Tensor, Tensor]:
    """N centres of rows (many, width) and how many rows each has; empty ones get random rows."""
    table = rows[torch.randperm(len(rows), device=rows.device)[:n]]
    table = table if len(table) == n else rows[torch.randint(len(rows), (n,), device=rows.device)]
    counts = torch.ones(n, device=rows.device)
    for _ in range(n_rounds):
        codes = nearest(rows, table)
        counts = torch.bincount(codes, minlength=n).to(rows.dtype)
        sums = torch.zeros_like(table).index_add_(0, codes, rows)
        spare = rows[torch.randint(len(rows), (n,), device=rows.device)]
        table = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1), spare)
    return table, counts
