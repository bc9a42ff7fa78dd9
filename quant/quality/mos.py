"""Scores without a reference: DNSMOS P.835 and P.808, PLCMOS v2, by networks of models.lock.

Source: microsoft/DNS-Challenge and microsoft/PLC-Challenge (MIT), as carried by speechmos; only its
networks are used. Features are computed here as they were when the networks were trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from quant.quality.waves import mel_power
from runtime.backends.ort import open_session

Float32 = NDArray[np.float32]

RATE_HZ = 16_000
_WINDOW_S = 9.01
_WINDOW_SAMPLES = 144_160
_RATERS = 15
# From raw outputs to the scale of listeners, as published: a polynomial, highest power first.
_OVERALL = (-0.06766283, 1.11546468, 0.04602535)


class Dnsmos:
    """Overall quality on two scales; clips shorter than 9 s are repeated.

    Equal to speechmos 0.0.1.1: every window of a clip that was repeated counts, too.
    """

    def __init__(self, files: Mapping[str, Path], *, threads: int = 1) -> None:
        self._p835 = open_session(files["sig_bak_ovr.onnx"], threads=threads)
        self._p808 = open_session(files["model_v8.onnx"], threads=threads)

    def score(self, pcm_16k: Float32) -> tuple[float, float]:
        """(P.835 overall, P.808) of float32 (n,), n > 0, 16 kHz."""
        pcm = np.clip(pcm_16k, -1, 1).astype(np.float32)
        while len(pcm) < _WINDOW_SAMPLES:
            pcm = np.concatenate([pcm, pcm])
        n_hops = int(len(pcm) // RATE_HZ - _WINDOW_S) + 1
        overall, p808 = [], []
        for hop in range(n_hops):
            # The published tool rounds a window's end down in floating point and then leaves out
            # those that came out a sample short. Its figures are what others compare with.
            part = pcm[hop * RATE_HZ : int((hop + _WINDOW_S) * RATE_HZ)]
            if len(part) < _WINDOW_SAMPLES:
                continue
            raw = next(iter(self._p835.run({"input_1": part[None]}).values()))[0]
            overall.append(float(np.polyval(_OVERALL, raw[2])))
            found = next(iter(self._p808.run({"input_1": _p808_features(part[:-160])}).values()))
            p808.append(float(found[0, 0]))
        return float(np.mean(overall)), float(np.mean(p808))


class Plcmos:
    """Artefacts of lost frames: the best detector of 80 ms holes."""

    def __init__(self, files: Mapping[str, Path], *, threads: int = 1) -> None:
        self._net = open_session(files["plcmos_v2.onnx"], threads=threads)

    def score(self, pcm_16k: Float32) -> float:
        """Mean over 15 raters, always the same ones, of float32 (n,), 16 kHz."""
        features = _plc_features(np.clip(pcm_16k, -1, 1).astype(np.float32))[None, None]
        raters = np.random.default_rng(0).normal(size=(_RATERS, 1, 64)).astype(np.float32)
        found = []
        for rater in raters:
            out = self._net.run({"degraded_audio": features, "rater_embed": rater})
            found.append(float(np.ravel(next(iter(out.values())))[0]))
        return float(np.mean(found))


def _p808_features(pcm: Float32) -> Float32:
    power = mel_power(pcm, RATE_HZ, n_fft=321, hop=160, n_mels=120)[:900]
    top = power.max()
    db = 10 * np.log10(np.maximum(power, 1e-10)) - 10 * np.log10(max(top, 1e-10))
    scaled: Float32 = ((np.maximum(db, -80) + 40) / 40).astype(np.float32)
    return scaled[None]


def _plc_features(pcm: Float32) -> Float32:
    size, hop = 512, 256
    window = np.hamming(size + 1)[:-1]
    n_frames = -(-(len(pcm) + hop) // hop)
    right = (n_frames - 1) * hop + size - hop - len(pcm)
    padded = np.pad(pcm.astype(np.float64), (hop, max(0, right)))
    frames = sliding_window_view(padded, size)[::hop][:n_frames] * window
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    if not power.any():
        return np.full(power.shape, -8 * np.log(10) / 20, np.float32)
    least = np.log(power[power > 0].min()) - 12 * np.log(10)
    log_power = np.where(power > 0, np.log(np.maximum(power, 1e-300)), least)
    scaled: Float32 = (log_power / 20).astype(np.float32)
    return scaled
