"""What fewer bits do to the miniature: float, 8, 4 and 3 bits, each against its own float output.

A trained model must lose more with every step down; where it does not, a measurement is broken.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from edge.frame import Pcm

Told = Callable[[str, int, int], None]

# The name of a rung; what the codec's, the temporal and the depth weights become. The depth
# transformer has no kernel for 3 bits and stays at 4.
_RUNGS = (
    ("int8", "sim8", "q8_0", "w8"),
    ("int4", "sim4", "q4_K", "w4"),
    ("3 bit", "sim3", "q3_K", "w4"),
)
_LOG_FLOOR = 1e-4


def damage_report(whole: Path, sounds: Sequence[Pcm], told: Told) -> dict[str, Any]:
    """The ladder of a float artifact on sounds of whole frames.

    Returns a row for each rung, wave_snr_db, log_mel, codes_equal and text_kl, and whether each of
    them is monotone from rung to rung.
    """
    from quant.run import quantize
    from quant.subject import open_subject

    rows = {}
    with tempfile.TemporaryDirectory(prefix="edge-mini-") as name:
        for done, (rung, *weights) in enumerate(_RUNGS):
            out, recipe = Path(name) / rung.replace(" ", "-"), _recipe(rung, *weights)
            quantize(open_subject(whole), recipe, out)
            quantize(open_subject(whole / "mimi"), recipe, out / "mimi")
            rows[rung] = _codec_damage(whole, out, sounds) | _model_damage(whole, out, sounds)
            told("damage", done + 1, len(_RUNGS))
    return {"rungs": rows, "monotone": monotone(list(rows.values()))}


def monotone(rows: Sequence[dict[str, float]]) -> dict[str, bool]:
    """For each figure whether it gets worse with every rung; the first two fall, others rise."""
    falls = {"wave_snr_db": 1, "codes_equal": 1, "log_mel": -1, "text_kl": -1}
    return {
        name: all(sign * a[name] > sign * b[name] for a, b in pairwise(rows))
        for name, sign in falls.items()
    }


def _recipe(name: str, codec: str, temporal: str, depth: str) -> Any:
    from quant.recipe import Recipe, Rule

    everything = (Rule(".*:search:.*", "float", optional=True), Rule(".*", codec))
    model = (
        Rule(r"temporal:.*", temporal, "q8_0"),
        Rule(r"depth:.*", depth, "float", optional=True),
    )
    return Recipe(name, "", 0, "compact", {"mimi": everything, "moshi": model}, "0" * 64)


def _codec_damage(whole: Path, out: Path, sounds: Sequence[Pcm]) -> dict[str, float]:
    """Both codecs decode the float one's codes; codes are compared where both encode."""
    from edge.frame import FRAME_SAMPLES
    from quant.measure.codec import run_codec
    from runtime.models.mimi import MimiCodec

    theirs, ours = MimiCodec(whole / "mimi"), MimiCodec(out / "mimi")
    snrs, mels, equal = [], [], []
    for pcm in sounds:
        frames = pcm.reshape(-1, FRAME_SAMPLES)
        want = run_codec(theirs, frames, None)
        got = run_codec(ours, frames, want["codes"])
        noise = float(np.mean((want["pcm"] - got["pcm"]) ** 2))
        snrs.append(10 * np.log10(float(np.mean(want["pcm"] ** 2)) / max(noise, 1e-12)))
        mels.append(float(np.abs(_log_bands(want["pcm"]) - _log_bands(got["pcm"])).mean()))
        equal.append(float((want["codes"] == got["codes"]).mean()))
    return {"wave_snr_db": float(np.mean(snrs)), "log_mel": float(np.mean(mels)),
            "codes_equal": float(np.mean(equal))}  # fmt: skip


def _model_damage(whole: Path, out: Path, sounds: Sequence[Pcm]) -> dict[str, float]:
    """Both models are led along what the float one says to these sounds."""
    from edge.frame import FRAME_SAMPLES
    from quant.measure.codec import run_codec
    from quant.measure.streams import follow, kl
    from runtime.models.mimi import MimiCodec
    from runtime.models.moshi import MoshiModel

    codec, theirs, ours = MimiCodec(whole / "mimi"), MoshiModel(whole), MoshiModel(out)
    text, audio = [], []
    for pcm in sounds:
        user = run_codec(codec, pcm.reshape(-1, FRAME_SAMPLES), None)["codes"]
        want = follow(theirs, user, None)
        got = follow(ours, user, want)
        text.append(float(kl(want.text_logits, got.text_logits).mean()))
        audio.append(float(kl(want.audio_logits, got.audio_logits).mean()))
    return {"text_kl": float(np.mean(text)), "audio_kl": float(np.mean(audio))}


def _log_bands(pcm: Pcm, n: int = 1024, n_bands: int = 64) -> np.ndarray:
    """Log magnitudes (windows, bands) of evenly wide bands."""
    count = max(1, (len(pcm) - n) // (n // 4) + 1)
    rows = np.asarray(pcm)[np.arange(count)[:, None] * (n // 4) + np.arange(n)]
    lines = np.abs(np.fft.rfft(rows * np.hanning(n), axis=1))[:, 1:]
    bands = lines.reshape(count, n_bands, -1).mean(2) / np.sqrt(n)
    return np.asarray(np.log(bands + _LOG_FLOOR))
