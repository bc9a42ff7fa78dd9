"""`edge mini eval`, the codec's half: how intelligible its speech is, and for whom.

Everything goes through the artifact and the runtime, as a user hears it. Nothing here was trained
on: sentences, voices and noises are the held-out ones.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm
from edge.lock import read_lock
from edge.resample import Resampler
from edge.store import ModelStore
from edge.wav import read_mono
from export.mini import texts, voices
from export.mini.corpus import in_frames
from export.mini.metrics import entropy_share, estoi, word_errors
from runtime.engines.duplex import Codec
from runtime.models.asr import Recogniser
from runtime.models.logmel import EAR_RATE_HZ

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Spoken:
    """A sentence of the evaluation: sound of whole frames, and its words."""

    pcm: Pcm
    text: str


class Judge:
    """The starter recogniser as the listener."""

    def __init__(self) -> None:
        self._recogniser = Recogniser(ModelStore(read_lock()).files("whisper-tiny.en"))

    def words(self, pcm: Pcm) -> str:
        """What is heard in 24 kHz sound."""
        heard = Resampler(SAMPLE_RATE_HZ, EAR_RATE_HZ).push(np.ascontiguousarray(pcm), last=True)
        return self._recogniser.transcribe(heard).text


def through(codec: Codec, pcm: Pcm) -> tuple[NDArray[np.int64], Pcm]:
    """Codes (8, frames) and decoded sound of a stream of its own."""
    state, codes, out = codec.start(), [], []
    for start in range(0, len(pcm) - FRAME_SAMPLES + 1, FRAME_SAMPLES):
        state, code = codec.encode(state, pcm[start : start + FRAME_SAMPLES])
        state, made = codec.decode(state, code)
        codes.append(code)
        out.append(made)
    return np.stack(codes, 1), np.concatenate(out)


def codec_report(
    codec: Codec,
    studio: voices.Studio,
    judge: Judge,
    speech: Path | None,
    progress: Progress,
    *,
    n_sentences: int = 50,
) -> dict[str, Any]:
    """ESTOI and word error rates by group of voices, and each codebook's entropy in use.

    speech: a folder of real recordings with a manifest.tsv, None for none.
    """
    report: dict[str, Any] = {}
    codes: list[NDArray[np.int64]] = []
    for name, group in _groups(studio, speech, n_sentences):
        scores, errors, plain, total = [], 0, 0, 0
        wanted = list(group)
        for done, spoken in enumerate(wanted):
            code, made = through(codec, spoken.pcm)
            codes.append(code)
            scores.append(estoi(spoken.pcm, made))
            if name in ("own", "real") and spoken.text:  # some recordings have no transcript
                missed, n = word_errors(spoken.text, judge.words(made))
                errors, total = errors + missed, total + n
                plain += word_errors(spoken.text, judge.words(spoken.pcm))[0]
            progress(f"codec, {name}", done + 1, len(wanted))
        report[name] = {"n": len(wanted), "estoi": _mean(scores)}
        if total:
            report[name] |= {"wer": errors / total, "wer_of_original": plain / total}
    report["code_entropy_share"] = entropy_share(np.concatenate(codes, 1), codec.bins)
    return report


def _groups(
    studio: voices.Studio, speech: Path | None, n: int
) -> Iterable[tuple[str, Iterable[Spoken]]]:
    sentences = texts.held_out()[:n]
    yield (
        "own",
        (
            Spoken(in_frames(studio.assistant(text, seed=i), lead=960), text)
            for i, text in enumerate(sentences)
        ),
    )
    people = voices.installed()
    for name, held_out in (("seen", False), ("unseen", True)):
        some = [s for s in people if s.held_out == held_out]
        yield (
            name,
            (
                Spoken(in_frames(studio.say(some[i % len(some)], text, seed=i), lead=960), text)
                for i, text in enumerate(sentences)
            ),
        )
    if speech is not None:
        yield "real", _recordings(speech)


def _recordings(folder: Path) -> Iterable[Spoken]:
    """The recordings that a manifest.tsv lists, with what is said in them."""
    with (folder / "manifest.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            name = row["file"]
            text = row["transcript"]
            pcm = voices.levelled(read_mono(folder / name, SAMPLE_RATE_HZ))
            yield Spoken(in_frames(pcm, lead=0), text)


def _mean(values: list[float]) -> float:
    kept = [value for value in values if np.isfinite(value)]
    return float(np.mean(kept)) if kept else float("nan")
