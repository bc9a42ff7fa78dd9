"""Where a frame's time goes: histograms that never grow, and a Chrome trace for those who ask."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

# Bins grow by 2 %, from 1 microsecond to about 150 seconds.
_GROWTH = math.log(1.02)
_N_BINS = 950


class Histogram:
    """Durations in fixed logarithmic bins: quantiles to within 2 %, the same size after a week."""

    def __init__(self) -> None:
        self._counts = [0] * _N_BINS
        self.count = 0
        self.max_ns = 0

    def add(self, duration_ns: int) -> None:
        """Count one duration, nanoseconds >= 0."""
        micro = max(duration_ns, 1) / 1_000
        self._counts[min(_N_BINS - 1, max(0, int(math.log(micro) / _GROWTH)))] += 1
        self.count += 1
        self.max_ns = max(self.max_ns, duration_ns)

    def quantile_ms(self, q: float) -> float:
        """The q-quantile (0..1) in milliseconds; 0.0 when nothing was counted."""
        wanted = q * self.count
        seen = 0
        for i, n in enumerate(self._counts):
            seen += n
            if n and seen >= wanted:
                return min(math.exp((i + 0.5) * _GROWTH) / 1_000, self.max_ns / 1e6)
        return 0.0

    def summary(self) -> dict[str, float]:
        """p50, p95, p99 and max in milliseconds, rounded to microseconds."""
        named = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
        out = {name: round(self.quantile_ms(q), 3) for name, q in named.items()}
        return {**out, "max": round(self.max_ns / 1e6, 3)}


@dataclass(frozen=True, slots=True)
class Span:
    """One stage's work. began_ns, ended_ns: time.monotonic_ns()."""

    stage: str
    began_ns: int
    ended_ns: int


class Trace:
    """Collects a run's timings: a histogram for each stage, and a Chrome trace on request."""

    def __init__(self, chrome: Path | None = None) -> None:
        self.step = Histogram()
        self.stages: dict[str, Histogram] = {}
        self.n_frames = 0
        self.n_missed = 0
        self._chrome = ChromeTrace(chrome) if chrome else None

    def frame(self, index: int, began_ns: int, ended_ns: int, *, missed: bool) -> None:
        """Count one engine.step."""
        self.n_frames += 1
        self.n_missed += missed
        self.step.add(ended_ns - began_ns)
        if self._chrome:
            self._chrome.span(Span("step", began_ns, ended_ns), lane="loop", frame=index)

    def stage(self, span: Span) -> None:
        """Count one stage's work, wherever it ran."""
        self.stages.setdefault(span.stage, Histogram()).add(span.ended_ns - span.began_ns)
        if self._chrome:
            self._chrome.span(span, lane=span.stage)

    def summary(self) -> dict[str, object]:
        """Frames, misses and quantiles as plain values."""
        return {
            "frames": {
                "count": self.n_frames,
                "missed": self.n_missed,
                "step_ms": self.step.summary(),
            },
            "stages": {
                name: {"count": h.count, "ms": h.summary()} for name, h in self.stages.items()
            },
        }

    def close(self) -> None:
        """Complete the trace file."""
        if self._chrome:
            self._chrome.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()


class ChromeTrace:
    """Writes the JSON array that chrome://tracing and Perfetto read.

    Events are written as they come, so an interrupted run leaves a file that both viewers accept:
    the format allows the closing bracket to be missing.
    """

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("w", encoding="utf-8")
        self._file.write("[\n")
        self._lanes: dict[str, int] = {}

    def span(self, span: Span, *, lane: str, **facts: int) -> None:
        """One complete event on the lane's row."""
        event = {
            "name": span.stage,
            "ph": "X",
            "ts": span.began_ns / 1_000,
            "dur": (span.ended_ns - span.began_ns) / 1_000,
            "pid": 1,
            "tid": self._lane(lane),
            "args": facts,
        }
        self._file.write(json.dumps(event) + ",\n")

    def close(self) -> None:
        """End the array; safe to call twice."""
        if not self._file.closed:
            self._file.write('{"name": "end", "ph": "M", "pid": 1}\n]\n')
            self._file.close()

    def _lane(self, name: str) -> int:
        if name not in self._lanes:
            self._lanes[name] = len(self._lanes) + 1
            label = {
                "name": "thread_name",
                "ph": "M",
                "pid": 1,
                "tid": self._lanes[name],
                "args": {"name": name},
            }
            self._file.write(json.dumps(label) + ",\n")
        return self._lanes[name]


def rss_mb() -> float:
    """Resident memory of this process now, MiB; its peak where the present is not to be had."""
    return _status_mb("VmRSS")


def peak_rss_mb() -> float:
    """The largest resident memory of this process so far, MiB."""
    return _status_mb("VmHWM")


def _status_mb(key: str) -> float:
    if sys.platform == "linux":
        with Path("/proc/self/status").open(encoding="ascii") as handle:
            for line in handle:
                if line.startswith(key + ":"):
                    return int(line.split()[1]) / 1024
    if sys.platform == "win32":
        return 0.0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024
