"""Means with intervals: paired by utterance, bootstrapped by speaker, always the same resamples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Counted = tuple[float, float]

N_RESAMPLES = 10_000
LEAST_UTTERANCES = 20
LEAST_UNITS = 5


@dataclass(frozen=True, slots=True)
class Summary:
    """One metric over all utterances. low95 .. high90: intervals of the mean.

    worst5: mean of the worst twentieth. n: utterances with a figure; without: those that have none.
    n_units: what is resampled whole: speakers; sentences or conversations where there is one voice.
    """

    mean: float
    low95: float
    high95: float
    low90: float
    high90: float
    worst5: float
    n: int
    n_units: int
    without: tuple[str, ...] = ()

    @property
    def enough(self) -> bool:
        """Whether there are enough utterances and units to say anything."""
        return self.n >= LEAST_UTTERANCES and self.n_units >= LEAST_UNITS


def summarise(
    values: Mapping[str, float],
    speakers: Mapping[str, str],
    *,
    higher_is_better: bool = True,
    seed: int = 0,
) -> Summary:
    """Mean and intervals of a metric, utterance -> value; NaN values are left out and counted.

    Speakers are drawn whole, with replacement, so that ten clips of one voice are not taken for
    ten independent ones.
    """
    names = sorted(name for name, value in values.items() if np.isfinite(value))
    without = tuple(sorted(set(values) - set(names)))
    if not names:
        nan = float("nan")
        return Summary(nan, nan, nan, nan, nan, nan, 0, 0, without)
    found = np.array([values[name] for name in names])
    who = [speakers.get(name, name) for name in names]
    means = bootstrap(found, who, seed=seed)
    low95, low90, high90, high95 = np.percentile(means, (2.5, 5, 95, 97.5))
    ordered = np.sort(found) if higher_is_better else np.sort(found)[::-1]
    worst = ordered[: max(1, len(ordered) // 20)]
    return Summary(
        float(found.mean()), float(low95), float(high95), float(low90), float(high90),
        float(worst.mean()), len(names), len(set(who)), without,
    )  # fmt: skip


def bootstrap(values: Float64, speakers: Sequence[str], *, seed: int) -> Float64:
    """Means of 10 000 resamples of whole speakers, float64 (10000,)."""
    known = sorted(set(speakers))
    index = {speaker: i for i, speaker in enumerate(known)}
    sums, counts = np.zeros(len(known)), np.zeros(len(known))
    for value, speaker in zip(values, speakers, strict=True):
        sums[index[speaker]] += value
        counts[index[speaker]] += 1
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(known), (N_RESAMPLES, len(known)))
    means: Float64 = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means


def ratio(
    wrong: Mapping[str, float], total: Mapping[str, float], speakers: Mapping[str, str],
    *, seed: int = 0,
) -> Summary:  # fmt: skip
    """A rate such as words wrong of words said, over all utterances at once."""
    nothing = dict.fromkeys(total, (0.0, 1.0))
    return rate_change(nothing, {k: (wrong[k], total[k]) for k in total}, speakers, seed=seed)


def rate_change(
    before: Mapping[str, Counted], after: Mapping[str, Counted], speakers: Mapping[str, str],
    *, seed: int = 0,
) -> Summary:  # fmt: skip
    """The difference of two such rates, the same speakers drawn for both.

    before, after: utterance -> (wrong, total); the totals may differ, where two models each said
    something else. Utterances with nothing said on either side are left out.
    """
    names = sorted(name for name in after if after[name][1] > 0 and before[name][1] > 0)
    who = [speakers.get(name, name) for name in names]
    known = sorted(set(who))
    if not known:
        nan = float("nan")
        return Summary(nan, nan, nan, nan, nan, nan, 0, 0)
    index = {speaker: i for i, speaker in enumerate(known)}
    sums = np.zeros((4, len(known)))
    for name, speaker in zip(names, who, strict=True):
        sums[:, index[speaker]] += (*before[name], *after[name])
    drawn = np.random.default_rng(seed).integers(0, len(known), (N_RESAMPLES, len(known)))
    resampled = sums[:, drawn].sum(axis=2)
    means = resampled[2] / resampled[3] - resampled[0] / resampled[1]
    whole = sums.sum(axis=1)
    low95, low90, high90, high95 = np.percentile(means, (2.5, 5, 95, 97.5))
    rates = np.sort([after[n][0] / after[n][1] - before[n][0] / before[n][1] for n in names])[::-1]
    worst = rates[: max(1, len(rates) // 20)]
    return Summary(
        float(whole[2] / whole[3] - whole[0] / whole[1]), float(low95), float(high95),
        float(low90), float(high90), float(worst.mean()), len(names), len(known),
    )  # fmt: skip
