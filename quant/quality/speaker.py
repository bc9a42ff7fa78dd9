"""Who speaks: GE2E voice embeddings in numpy, with weights of models.lock.

Source: resemble-ai/Resemblyzer (Apache-2.0). Its weights lie in a pickle, which is never opened:
the file's hash is pinned, so the numbers are read from where they are known to be in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.quality.waves import mel_power

Float32 = NDArray[np.float32]

RATE_HZ = 16_000
_HIDDEN, _N_MELS, _N_LAYERS = 256, 40, 3
_WINDOW, _STEP = 160, 77  # columns of 10 ms
_LEVEL_DB = -30.0
# First byte of each tensor in the file whose hash models.lock pins: input, recurrent, two biases.
_LAYERS = (
    (269_883, 433_723, 5_676_603, 5_680_699),
    (1_482_299, 2_530_875, 5_684_795, 5_688_891),
    (3_579_451, 4_628_027, 5_692_987, 5_697_083),
)
_OUT_WEIGHT, _OUT_BIAS = 7_731, 6_699


class SpeakerNet:
    """Loaded weights; no state between calls."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        raw = files["pretrained.pt"].read_bytes()

        def tensor(begin: int, *shape: int) -> Float32:
            n = int(np.prod(shape))
            return np.frombuffer(raw, "<f4", n, begin).reshape(shape).astype(np.float32)

        self._layers = []
        for i, (into, again, bias_in, bias_again) in enumerate(_LAYERS):
            n_in = _HIDDEN if i else _N_MELS
            bias = tensor(bias_in, 4 * _HIDDEN) + tensor(bias_again, 4 * _HIDDEN)
            self._layers.append(
                (tensor(into, 4 * _HIDDEN, n_in), tensor(again, 4 * _HIDDEN, _HIDDEN), bias)
            )
        self._out = (tensor(_OUT_WEIGHT, _HIDDEN, _HIDDEN), tensor(_OUT_BIAS, _HIDDEN))

    def embed(self, pcm_16k: Float32) -> Float32:
        """A voice as a unit vector, float32 (256,), from float32 (n,), 16 kHz, n > 0."""
        level_db = 10 * np.log10(float(np.mean(np.square(pcm_16k, dtype=np.float64))) + 1e-12)
        gain = 10 ** (max(0.0, _LEVEL_DB - level_db) / 20)
        pcm = (pcm_16k * np.float32(gain)).astype(np.float32)
        short = _WINDOW * 160 - len(pcm)
        if short > 0:
            pcm = np.pad(pcm, (0, short))
        mel = mel_power(pcm, RATE_HZ, n_fft=400, hop=160, n_mels=_N_MELS).astype(np.float32)
        starts = range(0, max(1, len(mel) - _WINDOW + 1), _STEP)
        windows = np.stack([mel[start : start + _WINDOW] for start in starts])
        found = self._forward(windows).mean(axis=0)
        unit: Float32 = (found / np.linalg.norm(found)).astype(np.float32)
        return unit

    def similarity(self, one: Float32, other: Float32) -> float:
        """Cosine of two voices, 1 for the same clip."""
        return float(self.embed(one) @ self.embed(other))

    def _forward(self, windows: Float32) -> Float32:
        """float32 (n, 160, 40) to unit vectors float32 (n, 256)."""
        x: Any = windows
        cell: Any
        for into, again, bias in self._layers:
            gates_in = x @ into.T + bias
            hidden = np.zeros((len(x), _HIDDEN), np.float32)
            cell = np.zeros_like(hidden)
            out = np.empty((*x.shape[:2], _HIDDEN), np.float32)
            for at in range(x.shape[1]):
                gates = gates_in[:, at] + hidden @ again.T
                enter, forget, new, leave = np.split(gates, 4, axis=1)
                cell = _sigmoid(forget) * cell + _sigmoid(enter) * np.tanh(new)
                hidden = np.asarray(_sigmoid(leave) * np.tanh(cell), np.float32)
                out[:, at] = hidden
            x = np.asarray(out)
        out_weight, out_bias = self._out
        raised: Any = np.maximum(0, x[:, -1] @ out_weight.T + out_bias)
        lengths = np.linalg.norm(raised, axis=1, keepdims=True) + 1e-9
        return np.asarray(raised / lengths, np.float32)


def _sigmoid(x: Float32) -> Float32:
    return np.asarray(1 / (1 + np.exp(-x)), np.float32)
