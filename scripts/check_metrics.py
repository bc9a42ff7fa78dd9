"""Whether the metrics of sound can be trusted here: `python scripts/check_metrics.py SPEECH`.

Sends every clip through a real Opus encoder at 24, 12 and 6 kbit/s and under hiss 50 dB below its
peak, and looks whether each metric says what listeners would: less is worse, and by more than
chance. Means are held against those measured earlier on other clips (within a tenth). Needs opusenc
and opusdec (opus-tools). Writes figures/metrics.json; ends with 1 where an order is wrong, 3 where
an interval leaves it open.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import UsageError
from edge.wav import read_mono
from quant.measure.ears import COMPARED, RATE_HZ, Ears, Options
from quant.measure.speech import read_speech
from quant.measure.stats import summarise
from quant.quality.waves import mel_distance_db

Float32 = NDArray[np.float32]

KBPS = (24, 12, 6)
CONDITIONS = ("clean", *(f"opus {k}k" for k in KBPS), "hiss -50 dB")
# Of 12 other clips, in NAMES' order; their log-mel distance had another floor: not comparable.
NAMES = ("pesq", "estoi", "visqol", "mel_db", "speaker", "dnsmos", "dnsmos_p808", "plcmos")
ANCHORS = {
    "clean": (4.64, 1.0, 4.56, None, 1.0, 3.25, 3.95, 4.40),
    "opus 24k": (4.44, 0.986, 4.27, None, 0.993, 3.24, 3.84, 4.41),
    "opus 12k": (3.84, 0.942, 4.02, None, 0.988, 3.16, 3.71, 4.24),
    "opus 6k": (2.24, 0.836, 2.04, None, 0.884, 2.85, 3.11, 2.76),
    "hiss -50 dB": (2.49, 0.970, 2.61, None, 0.984, 2.88, 3.48, 3.44),
}
# Every step down, and hiss below clean. Scores without a reference saturate at the top of it.
STEPS = (*pairwise(CONDITIONS[:4]), ("clean", "hiss -50 dB"))


def main() -> None:
    """Score, compare, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("speech", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--without", nargs="*", default=[], choices=NAMES)
    parser.add_argument("--out", type=Path, default=Path("figures/metrics.json"))
    given = parser.parse_args()
    if not (shutil.which("opusenc") and shutil.which("opusdec")):
        sys.exit("opusenc and opusdec are not here: install opus-tools")
    ears = Ears(Options((*given.without, "words")))
    clips = read_speech(given.speech, limit=given.limit)
    scores: dict[str, dict[str, dict[str, float]]] = {name: {} for name in CONDITIONS}
    for done, one in enumerate(clips.utterances, 1):
        clean = read_mono(one.path, RATE_HZ)
        for name, pcm in conditions(clean).items():
            scores[name][one.name] = scored(ears, clean, pcm)
        print(f"{done} of {len(clips.utterances)}", file=sys.stderr)
    found = judged(scores, clips.speakers)
    found["not_measured"] = {k: v for k, v in ears.missing.items() if k != "words"}
    found["speech"] = {"n": len(clips.utterances), "sha256": clips.sha256}
    given.out.write_text(json.dumps(found, indent=1), "utf-8")
    for name, means in found["means"].items():
        print(f"{name:<12}" + "".join(f"{k} {v:<8.3g}" for k, v in means.items()))
    for step in found["steps"]:
        if step["said"] != "right":
            print(f"{step['metric']}: {step['better']} over {step['worse']}: {step['said']}")
    for far in found["far_from_anchor"]:
        print("more than a tenth from the anchor:", far)
    said = {step["said"] for step in found["steps"]}
    sys.exit(1 if "wrong" in said else 3 if "open" in said else 0)


def conditions(clean: Float32) -> dict[str, Float32]:
    """The clip in every condition, as long as it was, 16 kHz."""
    found = {"clean": clean}
    for kbps in KBPS:
        found[f"opus {kbps}k"] = through_opus(clean, kbps)
    level = float(np.abs(clean).max()) * 10 ** (-50 / 20)
    hiss = np.random.default_rng(0).normal(0, level, len(clean))
    found["hiss -50 dB"] = np.clip(clean + hiss, -1, 1).astype(np.float32)
    return found


def through_opus(pcm: Float32, kbps: int) -> Float32:
    """Encoded and decoded by opus-tools; the coder's delay is taken off by the file's header."""
    import soundfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        soundfile.write(folder / "in.wav", pcm, RATE_HZ, subtype="PCM_16")
        run("opusenc", "--quiet", "--bitrate", str(kbps), folder / "in.wav", folder / "a.opus")
        run("opusdec", "--quiet", "--rate", str(RATE_HZ), folder / "a.opus", folder / "out.wav")
        heard = read_mono(folder / "out.wav", RATE_HZ)
    return np.pad(heard, (0, max(0, len(pcm) - len(heard))))[: len(pcm)]


def run(*words: str | Path) -> None:
    """One command. Raises UsageError with what it said."""
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"{words[0]} failed: {done.stderr.strip()[-200:]}")


def scored(ears: Ears, clean: Float32, pcm: Float32) -> dict[str, float]:
    """Every metric that is here."""
    found = ears.compare(clean, pcm, rate_hz=RATE_HZ)
    found["mel_db"] = mel_distance_db(clean, pcm, RATE_HZ)
    found["speaker"] = ears.same_speaker(clean, pcm, rate_hz=RATE_HZ)
    found |= ears.alone(pcm, rate_hz=RATE_HZ)
    return {k: v for k, v in found.items() if k in NAMES and np.isfinite(v)}


def judged(
    scores: dict[str, dict[str, dict[str, float]]], speakers: dict[str, str]
) -> dict[str, Any]:
    """Means, steps with the interval of the paired difference, what is far from the anchors."""
    names = [n for n in NAMES if any(n in row for row in scores["clean"].values())]
    means = {
        condition: {n: float(np.mean([r[n] for r in rows.values() if n in r])) for n in names}
        for condition, rows in scores.items()
    }
    steps = []
    for better, worse in STEPS:
        for name in names:
            sign = -1 if name == "mel_db" else 1
            gap = {
                clip: sign * (row[name] - scores[worse][clip][name])
                for clip, row in scores[better].items()
                if name in row and name in scores[worse][clip]
            }
            one = summarise(gap, speakers)
            said = "right" if one.low95 > 0 else "wrong" if one.high95 < 0 else "open"
            interval = [one.low95, one.high95]
            steps.append({"metric": name, "better": better, "worse": worse, "by": one.mean,
                          "interval95": interval, "said": said})  # fmt: skip
    far = [
        f"{condition}: {name} {means[condition][name]:.3g}, anchor {anchor:g}"
        for condition, row in ANCHORS.items()
        for name, anchor in zip(NAMES, row, strict=True)
        if anchor is not None
        and name in names
        and abs(means[condition][name] - anchor) > 0.1 * anchor
    ]
    return {"means": means, "steps": steps, "far_from_anchor": far}


if __name__ == "__main__":
    assert set(COMPARED) <= set(NAMES)
    main()
