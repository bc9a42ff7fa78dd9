"""Timings: quantiles within a few per cent whatever the run's length, and a readable trace file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from runtime.trace import ChromeTrace, Histogram, Span, Trace, peak_rss_mb, rss_mb


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_quantiles_are_within_three_per_cent(q: float) -> None:
    durations_ns = np.random.default_rng(1).lognormal(15, 1, 20_000).astype(int)
    histogram = Histogram()
    for duration_ns in durations_ns:
        histogram.add(int(duration_ns))
    assert histogram.quantile_ms(q) == pytest.approx(np.quantile(durations_ns, q) / 1e6, rel=0.03)
    assert histogram.summary()["max"] == round(durations_ns.max() / 1e6, 3)


def test_an_empty_histogram_is_zero() -> None:
    assert Histogram().summary() == {"p50": 0.0, "p95": 0.0, "p99": 0.0, "max": 0.0}


def test_durations_outside_the_bins_are_kept() -> None:
    histogram = Histogram()
    for duration_ns in (0, 1, 10**15):
        histogram.add(duration_ns)
    assert histogram.count == 3
    assert histogram.max_ns == 10**15


def test_the_chrome_trace_is_json_with_a_lane_for_each_stage(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    with Trace(path) as trace:
        trace.frame(0, 1_000, 2_000_000, missed=False)
        trace.stage(Span("asr", 5_000, 9_000))
        trace.stage(Span("asr", 15_000, 19_000))
    events = json.loads(path.read_text())
    spans = [(e["name"], e["dur"]) for e in events if e["ph"] == "X"]
    assert spans == [("step", 1999.0), ("asr", 4.0), ("asr", 4.0)]
    lanes = {e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert lanes == {"loop", "asr"}


def test_an_interrupted_trace_lacks_only_its_closing_bracket(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    trace = ChromeTrace(path)
    trace.span(Span("step", 0, 1_000), lane="loop")
    trace._file.flush()
    assert json.loads(path.read_text().rstrip(",\n") + "]")[-1]["name"] == "step"
    trace.close()
    assert json.loads(path.read_text())[1]["name"] == "step"


def test_memory_is_measured() -> None:
    assert 1 < rss_mb() <= peak_rss_mb() * 1.01
