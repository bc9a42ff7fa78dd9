"""The fourth level: a multistream model left to itself, judged by what is heard and what it meant.

Nothing holds the two arms together here, so every figure is of one arm by itself, or of how alike
the two voices are: scores, words of the sound against the model's own inner text, silence, pace,
and seconds in which it is stuck or talks gibberish.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ
from quant.measure.ears import Ears, changes
from quant.measure.listen import Counts, Listener
from runtime.models.mimi import MimiCodec
from runtime.models.multistream.tokenizer import Captions, TextTokenizer

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

SECOND = 12  # frames
_LOUD_RMS = 10 ** (-45 / 20)
_WINDOW_S = 4  # gibberish is looked for in pieces of so many seconds
_LEAST_LOUD = 1.0  # seconds of sound in one, for its words to count
_UNDERSTOOD = 0.25  # share of the words heard that must be in the text around
_SCORED = ("dnsmos", "dnsmos_p808", "plcmos")


@dataclass(frozen=True, slots=True)
class Said:
    """One arm's conversation. texts: the inner text by frame; codes: int64 (n, levels)."""

    texts: tuple[str, ...]
    codes: Int64
    pcm: Float32

    @property
    def text(self) -> str:
        """The inner text as a whole."""
        return "".join(self.texts).strip()

    @property
    def loud(self) -> NDArray[np.bool_]:
        """For each frame, whether it sounds: bool (n,)."""
        frames = self.pcm.reshape(-1, FRAME_SAMPLES)
        found: NDArray[np.bool_] = np.sqrt((frames**2).mean(axis=1)) > _LOUD_RMS
        return found


def spoken(
    text: Sequence[int], codes: Int64, codec: MimiCodec, tokenizer: TextTokenizer | None
) -> Said:
    """Text and sound of a conversation's aligned tokens."""
    captions = Captions(tokenizer) if tokenizer else None
    state, frames = codec.start(), []
    for row in codes:
        state, pcm = codec.decode(state, row)
        frames.append(pcm)
    texts = tuple(captions.add(int(token)) if captions else "" for token in text)
    return Said(texts, codes, np.concatenate(frames) if frames else np.zeros(0, np.float32))


def judge(
    theirs: Said, ours: Said, ears: Ears, listener: Listener
) -> tuple[dict[str, float], Counts, dict[str, float]]:
    """Metrics of the candidate against the float model, words, and facts of both arms."""
    arms = {"reference": theirs, "candidate": ours}
    facts: dict[str, float] = {}
    counts: Counts = {}
    for arm, said in arms.items():
        found = {
            "stuck": stuck_share(said),
            "gibberish": gibberish_share(said, ears),
            "quiet": 1 - float(said.loud.mean()) if len(said.codes) else 1.0,
            "words_per_s": pace(said),
        }
        if said.loud.any():
            found |= listener.alone(said.pcm)
        facts |= {f"{arm}.{name}": value for name, value in found.items()}
        if said.text and said.loud.any():
            counts |= listener.word_errors({arm: said.pcm}, text=said.text)
    if len(counts) < len(arms):
        counts = {}
    of = {arm: {k[len(arm) + 1 :]: v for k, v in facts.items() if k.startswith(f"{arm}.")}
          for arm in arms}  # fmt: skip
    metrics = changes(of["reference"], of["candidate"], (*_SCORED, "quiet", "words_per_s"))
    shares = {
        arm: [of[arm][name] for name in ("stuck", "gibberish") if not math.isnan(of[arm][name])]
        for arm in arms
    }
    metrics["artefact_change"] = sum(shares["candidate"]) - sum(shares["reference"])
    if theirs.loud.any() and ours.loud.any():
        metrics["speaker"] = ears.same_speaker(theirs.pcm, ours.pcm, rate_hz=SAMPLE_RATE_HZ)
    return {k: v for k, v in metrics.items() if not math.isnan(v)}, counts, facts


def stuck_share(said: Said) -> float:
    """Share of seconds in which a sound stands still or the text goes round in circles."""
    loud = said.loud
    n = len(said.codes) // SECOND
    stuck = 0
    for i in range(n):
        part = slice(i * SECOND, (i + 1) * SECOND)
        stuck += bool(loud[part].all()) and len(np.unique(said.codes[part], axis=0)) == 1
    return (stuck + _circling(said)) / max(1, n)


def _circling(said: Said) -> float:
    """Seconds of text that only repeat three words which were just said."""
    frames = [i for i, text in enumerate(said.texts) for _ in text]
    words = [
        (frames[found.start()], found.group())
        for found in re.finditer(r"\S+", "".join(said.texts).lower())
    ]
    again: set[int] = set()
    for at in range(3, len(words) - 2):
        three = [word for _, word in words[at : at + 3]]
        if three == [word for _, word in words[at - 3 : at]]:
            again.add(words[at][0] // SECOND)
    return float(len(again))


def gibberish_share(said: Said, ears: Ears) -> float:
    """Share of seconds in which hardly a word heard is one of the text around; NaN without ears.

    The text is looked for a second before and after, for it runs ahead of the sound.
    """
    size = _WINDOW_S * SECOND
    loud, bad = said.loud, 0.0
    n_windows = -(-len(said.codes) // size)
    for i in range(n_windows):
        sounding_s = float(loud[i * size : (i + 1) * size].sum()) / SECOND
        if sounding_s < _LEAST_LOUD:
            continue
        pcm = said.pcm[i * size * FRAME_SAMPLES : (i + 1) * size * FRAME_SAMPLES]
        heard = ears.words(pcm, rate_hz=SAMPLE_RATE_HZ)
        if heard is None:
            return math.nan
        around = "".join(said.texts[max(0, i * size - SECOND) : (i + 1) * size + SECOND])
        meant = {word.strip(".,?!;:'\"").lower() for word in around.split()}
        understood = sum(word in meant for word in heard)
        if understood <= _UNDERSTOOD * len(heard):
            bad += sounding_s
    return bad * SECOND / max(1, len(said.codes))


def pace(said: Said) -> float:
    """Words of the inner text for each second that sounds; NaN where nothing does."""
    sounding_s = float(said.loud.sum()) / SECOND
    return len(said.text.split()) / sounding_s if sounding_s >= _LEAST_LOUD else math.nan
