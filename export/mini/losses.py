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
_ENVELOPE_WINDOW, _ENVELOPE_HOP, _ENVELOPE_FFT = 614, 307, 1024
_N_ENVELOPES, _LOWEST_HZ = 15, 150.0
_SEGMENT = 30
_QUIETEST = 1e-4  # 40 dB below the loudest


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


class EnvelopeLoss(nn.Module):
    """One less the correlation of band envelopes over 0.4 s: what makes words understood.

    Bands and normalisation are those of the intelligibility measure ESTOI (Jensen and Taal, 2016),
    on the codec's own sample rate. Stretches without speech do not count.
    """

    def __init__(self) -> None:
        super().__init__()
        middle = _LOWEST_HZ * 2 ** (torch.arange(_N_ENVELOPES) / 3)
        hz = torch.linspace(0, SAMPLE_RATE_HZ / 2, _ENVELOPE_FFT // 2 + 1)
        low, high = middle * 2 ** (-1 / 6), middle * 2 ** (1 / 6)
        bands = ((hz >= low[:, None]) & (hz < high[:, None])).float()
        self.register_buffer("bands", bands, persistent=False)
        window = torch.hann_window(_ENVELOPE_WINDOW)
        self.register_buffer("window", window, persistent=False)

    def forward(self, made: Tensor, wanted: Tensor) -> Tensor:
        """Both (batch, samples), 0.5 s at least. 0 for equal envelopes, about 1 for unlike ones."""
        a, b = self._envelopes(made), self._envelopes(wanted)
        level = b.square().sum(1)
        heard = level > _QUIETEST * level.amax().clamp(min=1e-9)
        share = heard.float().unfold(1, _SEGMENT, 1).mean(2)
        like = (_normed(a) * _normed(b)).sum((2, 3)) / _SEGMENT
        return 1 - (like * share).sum() / share.sum().clamp(min=1e-6)

    def _envelopes(self, pcm: Tensor) -> Tensor:
        """(batch, bands, frames) of 12.8 ms."""
        lines = torch.stft(
            pcm, _ENVELOPE_FFT, _ENVELOPE_HOP, _ENVELOPE_WINDOW, self.get_buffer("window"),
            center=False, return_complex=True,
        )  # fmt: skip
        power = lines.real.square() + lines.imag.square()
        return (self.get_buffer("bands") @ power + 1e-9).sqrt()


def _normed(envelopes: Tensor) -> Tensor:
    """Segments (batch, segments, bands, frames): rows, then columns, centred, of unit length."""
    x = envelopes.unfold(2, _SEGMENT, 1).transpose(1, 2)
    for axis in (3, 2):
        x = x - x.mean(axis, keepdim=True)
        x = x / (x.square().sum(axis, keepdim=True) + 1e-12).sqrt()
    return x


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
