"""What tells real speech from decoded speech while the decoder learns; it is not shipped.

A small convolutional net looks at spectra of three window lengths, phases included. The decoder
learns to please it and to give it what real speech gives inside it (feature matching), which
sharpens what losses on magnitudes leave blurred.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

_WINDOWS = (256, 512, 1024)
_WIDTH = 8
_N_LAYERS = 4
_SLOPE = 0.2
_LOUDER = 10.0  # speech lies about that far below the scale that the net likes


class SpectralJudge(nn.Module):
    """One stack of convolutions over (time, frequency) for each window length."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stacks = nn.ModuleList(_stack() for _ in _WINDOWS)
        for n in _WINDOWS:
            self.register_buffer(f"window_{n}", torch.hann_window(n), persistent=False)

    def forward(self, pcm: Tensor) -> list[list[Tensor]]:
        """(batch, samples) to every layer's values by window length, the verdict last."""
        found = []
        for n, stack in zip(_WINDOWS, self.stacks, strict=True):
            window = self.get_buffer(f"window_{n}")
            lines = torch.stft(pcm, n, n // 4, window=window, return_complex=True)
            x = torch.view_as_real(lines).permute(0, 3, 2, 1) * (_LOUDER / math.sqrt(n / 4))
            values = []
            assert isinstance(stack, nn.ModuleList)
            for place, layer in enumerate(stack):
                x = layer(x)
                x = x if place == _N_LAYERS else functional.leaky_relu(x, _SLOPE)
                values.append(x)
            found.append(values)
        return found


def _stack() -> nn.ModuleList:
    """Layers that halve the frequencies and see 3 windows each."""
    widths = [2, *[_WIDTH] * _N_LAYERS]
    layers = [
        nn.utils.parametrizations.weight_norm(
            nn.Conv2d(a, b, (3, 5), stride=(1, 2), padding=(1, 2))
        )
        for a, b in pairwise(widths)
    ]
    layers.append(nn.utils.parametrizations.weight_norm(nn.Conv2d(_WIDTH, 1, 3, padding=1)))
    return nn.ModuleList(layers)


def judged_apart(real: list[list[Tensor]], made: list[list[Tensor]]) -> Tensor:
    """The judge's own hinge loss, meaned over window lengths."""
    losses = [
        functional.relu(1 - r[-1]).mean() + functional.relu(1 + m[-1]).mean()
        for r, m in zip(real, made, strict=True)
    ]
    return torch.stack(losses).mean()


def pleased(real: list[list[Tensor]], made: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
    """What the decoder minimises: (its hinge loss, relative distance of the values inside)."""
    hinge = torch.stack([-m[-1].mean() for m in made]).mean()
    apart = [
        (a - b.detach()).abs().mean() / b.detach().abs().mean().clamp(min=1e-6)
        for r, m in zip(real, made, strict=True)
        for a, b in zip(m[:-1], r[:-1], strict=True)
    ]
    return hinge, torch.stack(apart).mean()
