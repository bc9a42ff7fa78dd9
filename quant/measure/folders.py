"""Two folders with sound files of the same names: what a lossy path did to each clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge.frame import SAMPLE_RATE_HZ
from edge.wav import read_mono
from quant.measure.cache import Cache
from quant.measure.ears import Ears, Options, changes
from quant.measure.rows import Row
from quant.measure.speech import Utterance
from quant.measure.workers import Handler
from quant.quality.waves import fault
from runtime.models.text import words_wrong


def make_folder_handler(options: Options, cache_folder: str) -> Handler:
    """For workers: a job is (folder, utterance), whose clip is compared with that of its name."""
    ears, cache = Ears(options), Cache(Path(cache_folder))

    def measure(job: tuple[str, Utterance]) -> Row:
        folder, one = Path(job[0]), job[1]
        found = [path for path in sorted(folder.glob(f"{one.name}.*")) if path.is_file()]
        reference = read_mono(one.path, SAMPLE_RATE_HZ)
        seconds = len(reference) / SAMPLE_RATE_HZ
        bad = fault(reference) if found else "missing in the candidate's folder"
        if bad:
            return Row(one.name, one.speaker, seconds, skipped=bad)
        other = read_mono(found[0], SAMPLE_RATE_HZ)
        before = cache.figures(
            ("alone", one.sha256), lambda: ears.alone(reference, rate_hz=SAMPLE_RATE_HZ)
        )
        after = ears.alone(other, rate_hz=SAMPLE_RATE_HZ)
        metrics = ears.aligned(reference, other, rate_hz=SAMPLE_RATE_HZ)
        metrics |= changes(before, after, ("dnsmos", "plcmos"))
        metrics["speaker"] = ears.same_speaker(reference, other, rate_hz=SAMPLE_RATE_HZ)
        counts: dict[str, tuple[float, float]] = {}
        heard = [ears.words(pcm, rate_hz=SAMPLE_RATE_HZ) for pcm in (reference, other)]
        if heard[0] is not None and heard[1] is not None and heard[0]:
            counts["candidate.wer"] = (words_wrong(heard[0], heard[1]), len(heard[0]))
            counts["reference.wer"] = (0, len(heard[0]))
        return Row(
            one.name,
            one.speaker,
            seconds,
            metrics={name: value for name, value in metrics.items() if not np.isnan(value)},
            counts=counts,
            facts={f"reference.{k}": v for k, v in before.items()}
            | {f"candidate.{k}": v for k, v in after.items()},
            sounds={
                "original": cache.sound(("original", one.sha256), reference),
                "reference": cache.sound(("original", one.sha256), reference),
                "candidate": cache.sound(("folder", str(found[0].resolve()), one.sha256), other),
            },
            missing=ears.missing,
        )

    return measure
