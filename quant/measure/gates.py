"""Margins and verdicts: pass only what is shown to be good enough, fail what is shown not to be.

A gate whose metric was not measured leaves the verdict open, whatever the reason: a package that is
not installed must not turn into a pass. Who can do without a metric says so, and the report shows
that gate as waived.

The margins are starting values, from spreads measured on speech and from published ladders; no
listening test stands behind them. Every one can be changed with a TOML file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.errors import ConfigError, UsageError
from edge.suggest import nearest
from quant.measure.stats import Summary

Verdict = Literal["pass", "fail", "inconclusive", "not measured", "waived"]
Table = Mapping[str, "Margin"]


@dataclass(frozen=True, slots=True)
class Margin:
    """What the mean of a metric must reach. hard: beyond it, it fails whatever the interval.

    at_least: the limit is a lower one.
    """

    limit: float
    hard: float
    at_least: bool


@dataclass(frozen=True, slots=True)
class Gate:
    """A metric held against its margin. why: one line for people."""

    metric: str
    margin: Margin
    verdict: Verdict
    why: str


def _least(limit: float, hard: float) -> Margin:
    return Margin(limit, hard, at_least=True)


def _most(limit: float, hard: float) -> Margin:
    return Margin(limit, hard, at_least=False)


TRANSPARENT: Table = {
    "pesq": _least(4.4, 3.5),
    "si_sdr_db": _least(25, 10),
    "mel_db": _most(1.0, 4.0),
    "pause_rise_db": _most(3, 10),
    "pesq_change": _least(-0.05, -0.3),
    "estoi_change": _least(-0.005, -0.03),
    "visqol_change": _least(-0.05, -0.3),
    "tokens_level_1": _least(0.98, 0.90),
    "tokens_mean": _least(0.95, 0.75),
    "text_kl": _most(0.005, 0.15),
    "text_same_top": _least(0.98, 0.80),
    "audio_1_kl": _most(0.01, 0.3),
    "audio_kl": _most(0.02, 0.3),
    "dnsmos_change": _least(-0.05, -0.3),
    "plcmos_change": _least(-0.05, -0.3),
    "speaker": _least(0.97, 0.85),
    "wer_change": _most(0.005, 0.04),
    "same_words": _least(0.98, 0.85),
    "artefact_change": _most(0.005, 0.05),
    "duration_change": _most(0.02, 0.1),
    "pitch_change": _most(0.01, 0.05),
}
COMPACT: Table = {
    "pesq": _least(4.0, 3.5),
    "si_sdr_db": _least(15, 10),
    "mel_db": _most(2.0, 4.0),
    "pause_rise_db": _most(6, 10),
    "pesq_change": _least(-0.15, -0.3),
    "estoi_change": _least(-0.015, -0.03),
    "visqol_change": _least(-0.15, -0.3),
    "tokens_level_1": _least(0.95, 0.90),
    "tokens_mean": _least(0.88, 0.75),
    "text_kl": _most(0.05, 0.15),
    "text_same_top": _least(0.92, 0.80),
    "audio_1_kl": _most(0.08, 0.3),
    "audio_kl": _most(0.12, 0.3),
    "dnsmos_change": _least(-0.15, -0.3),
    "plcmos_change": _least(-0.15, -0.3),
    "speaker": _least(0.93, 0.85),
    "wer_change": _most(0.015, 0.04),
    "same_words": _least(0.95, 0.85),
    "artefact_change": _most(0.02, 0.05),
    "duration_change": _most(0.05, 0.1),
    "pitch_change": _most(0.03, 0.05),
}
TABLES: Mapping[str, Table] = {"transparent": TRANSPARENT, "compact": COMPACT}
# A metric that one can do without, and the gates that stand on it.
STANDS_ON: Mapping[str, tuple[str, ...]] = {
    "pesq": ("pesq", "pesq_change"),
    "estoi": ("estoi_change",),
    "visqol": ("visqol_change",),
    "dnsmos": ("dnsmos_change",),
    "plcmos": ("plcmos_change",),
    "speaker": ("speaker",),
    "words": ("wer_change",),
}


def load_margins(name: str, path: Path | None) -> Table:
    """A built-in table, with what a TOML file says in its place: [metric] limit, hard.

    Raises UsageError for a table that there is not, ConfigError.
    """
    if name not in TABLES:
        raise UsageError(f"unknown gates {name!r}; known are {', '.join(TABLES)}")
    table = dict(TABLES[name])
    if path is None:
        return table
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: no table of margins ({error})") from error
    for metric, row in document.items():
        if metric not in table:
            near = nearest(metric, list(table))
            raise ConfigError(f"{path}: unknown metric {metric}; did you mean {near or 'pesq'}?")
        if not isinstance(row, dict) or set(row) - {"limit", "hard"} or not _numbers(row):
            raise ConfigError(f"{path}: [{metric}] takes limit and hard, two numbers")
        was = table[metric]
        table[metric] = Margin(
            float(row.get("limit", was.limit)), float(row.get("hard", was.hard)), was.at_least
        )
    return table


def _numbers(row: Mapping[str, object]) -> bool:
    return all(type(value) in (int, float) for value in row.values())


def judge(
    metric: str, margin: Margin, found: Summary | None, *, missing: Mapping[str, str] | None = None
) -> Gate:
    """Hold a metric against its margin: equivalence, not "no significant difference".

    It passes only where the whole 90 % interval is inside (two one-sided tests at 5 %), fails
    where the whole interval is outside or the mean is beyond the hard limit. Too few utterances or
    speakers are inconclusive, unless the hard limit lies outside the whole interval. missing:
    metric -> why it could not be had, for the gates that stand on it.
    """
    if found is None or found.n == 0:
        said = [(missing or {}).get(base) for base, on in STANDS_ON.items() if metric in on]
        return Gate(metric, margin, "not measured", next(filter(None, said), "no figures"))
    sign = 1 if margin.at_least else -1
    low, high = sorted((sign * found.low90, sign * found.high90))
    limit, hard, mean = sign * margin.limit, sign * margin.hard, sign * found.mean
    if high < hard or (found.enough and mean < hard):
        return Gate(metric, margin, "fail", f"{found.mean:.4g} is beyond {margin.hard:g}")
    if not found.enough:
        why = f"{found.n} utterances, {found.n_units} of them independent, are too few"
        return Gate(metric, margin, "inconclusive", why)
    if low >= limit:
        return Gate(metric, margin, "pass", f"within {margin.limit:g}")
    if high < limit:
        return Gate(metric, margin, "fail", f"{found.mean:.4g} does not reach {margin.limit:g}")
    why = f"the interval {found.low90:.4g} .. {found.high90:.4g} holds {margin.limit:g}"
    return Gate(metric, margin, "inconclusive", why)


def waived(without: Sequence[str]) -> set[str]:
    """The gates that stand on metrics which somebody chose to do without."""
    return {gate for metric in without for gate in STANDS_ON[metric]}


def overall(gates: Sequence[Gate]) -> Verdict:
    """The verdict of all: one failure fails; one doubt or one gate without figures leaves it open.

    Only what was waived does not count.
    """
    said = {gate.verdict for gate in gates} - {"waived"}
    if "fail" in said:
        return "fail"
    return "pass" if said == {"pass"} else "inconclusive"


def reasons(gates: Sequence[Gate], verdict: str) -> list[str]:
    """The gates that made the verdict what it is, with why; none for a pass."""
    blamed = {"fail": ("fail",), "inconclusive": ("inconclusive", "not measured")}
    return [
        f"{gate.metric}: {gate.why}" for gate in gates if gate.verdict in blamed.get(verdict, ())
    ]
