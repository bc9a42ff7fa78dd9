"""How far decoded sound is from what went in, in spectra of five window lengths.

Waveforms are not compared: magnitudes are learnt long before phases.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from edge.frame import SAMPLE_RATE_HZ

_WINDOWS = (128, 256, 512, 1024, 2048)
_BANDS = (16, 24, 40, 64, 80)
_FLOOR = 1e-3


class SpectralLoss(nn.Module):
    """Log-mel L1 and relative linear-magnitude L1, meaned over window lengths."""

    def __init__(self) -> None:
        super().__init__()
        for n, bands in zip(_WINDOWS, _BANDS, strict=True):
            self.register_buffer(f"window_{n}", torch.hann_window(n), persistent=False)
            self.register_buffer(f"bands_{n}", mel_bands(n, bands), persistent=False)

    def forward(self, made: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Both (batch, samples). Returns (log-mel, linear), each a mean over five lengths."""
        mel, linear = made.new_zeros(()), made.new_zeros(())
        for n in _WINDOWS:
            a, b = self._spectrum(made, n), self._spectrum(wanted, n)
            linear = linear + (a - b).abs().mean() / b.mean().clamp(min=_FLOOR)
            bands = self.get_buffer(f"bands_{n}")
            low_a, low_b = (bands @ a).clamp(min=_FLOOR), (bands @ b).clamp(min=_FLOOR)
            mel = mel + (low_a.log() - low_b.log()).abs().mean()
        return mel / len(_WINDOWS), linear / len(_WINDOWS)

    def _spectrum(self, pcm: Tensor, n: int) -> Tensor:
        window = self.get_buffer(f"window_{n}")
        spectrum = torch.stft(pcm, n, n // 4, window=window, return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        return (power + 1e-9).sqrt() / math.sqrt(n / 4)


def mel_bands(n: int, n_bands: int) -> Tensor:
    """Triangles (n_bands, n // 2 + 1) of unit sum, evenly spaced in mel from 0 to 12 kHz."""
    top = 2595 * math.log10(1 + SAMPLE_RATE_HZ / 2 / 700)
    corners = 700 * (10 ** (torch.linspace(0, top, n_bands + 2) / 2595) - 1)
    hz = torch.linspace(0, SAMPLE_RATE_HZ / 2, n // 2 + 1)
    low, mid, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rise, fall = (hz - low) / (mid - low), (high - hz) / (high - mid)
    bands = torch.minimum(rise, fall).clamp(min=0)
    # A band narrower than a line takes the line nearest to its middle.
    empty = bands.sum(1) == 0
    nearest = (hz[None] - mid).abs().argmin(1)
    bands[empty, nearest[empty]] = 1.0
    return bands / bands.sum(1, keepdim=True)
