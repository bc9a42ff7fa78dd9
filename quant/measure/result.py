"""All that a measurement found, as one JSON object: what report, comparison and CI read."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge.errors import UsageError
from quant.measure.ears import LOWER_IS_BETTER
from quant.measure.gates import Gate, Table, judge, waived
from quant.measure.rows import Row
from quant.measure.stats import Summary, rate_change, ratio, summarise
from quant.quality.perceptual import versions
from quant.subject import Subject

SCHEMA = 1
SEED = 0
_N_WORST = 3


def summaries(rows: Sequence[Row]) -> dict[str, Summary]:
    """Every metric over all utterances, and the change of the word error rate."""
    speakers = {row.name: row.speaker for row in rows}
    names = sorted({name for row in rows for name in row.metrics})
    found = {
        name: summarise(
            {row.name: row.metrics.get(name, math.nan) for row in rows},
            speakers,
            higher_is_better=name not in LOWER_IS_BETTER,
            seed=SEED,
        )
        for name in names
    }
    counted = [row for row in rows if "candidate.wer" in row.counts]
    if counted:
        arms = {
            arm: {row.name: row.counts[f"{arm}.wer"] for row in counted}
            for arm in ("reference", "candidate")
        }
        for arm, pairs in arms.items():
            wrong, total = ({name: pair[i] for name, pair in pairs.items()} for i in (0, 1))
            found[f"{arm}_wer"] = ratio(wrong, total, speakers, seed=SEED)
        found["wer_change"] = rate_change(arms["reference"], arms["candidate"], speakers, seed=SEED)
    return found


def judged(
    found: Mapping[str, Summary], margins: Table, wanted: Sequence[str],
    without: Sequence[str] = (), missing: Mapping[str, str] | None = None,
) -> list[Gate]:  # fmt: skip
    """Every gate that applies to a kind of model, those without figures among them.

    without: metrics that were given up on purpose; their gates are waived. missing: metric -> why
    it could not be had.
    """
    free = waived(without)
    return [
        Gate(name, margins[name], "waived", "--without")
        if name in free
        else judge(name, margins[name], found.get(name), missing=missing)
        for name in wanted
    ]


def worst(rows: Sequence[Row], metric_order: Sequence[str]) -> list[str]:
    """The three utterances that suffered most, by the first metric that was measured."""
    for metric in metric_order:
        having = [row for row in rows if metric in row.metrics]
        if having:
            sign = -1 if metric in LOWER_IS_BETTER else 1
            having.sort(key=lambda row: sign * row.metrics[metric])
            return [row.name for row in having[:_N_WORST]]
    return []


def describe(subject: Subject) -> dict[str, Any]:
    """A model, for the report."""
    return {
        "path": str(subject.path),
        "kind": subject.section,
        "recipe": subject.recipe,
        "size_bytes": subject.size_bytes,
        "fingerprint": subject.fingerprint,
    }


def surroundings() -> dict[str, Any]:
    """Versions and processor, which figures may depend on."""
    tools = {}
    for name in ("edgevoice", "numpy", "onnxruntime", "onnx", "llama-cpp-python"):
        try:
            tools[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            tools[name] = "not installed"
    return {
        "tools": {**tools, **versions()},
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": _cpu(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "seed": SEED,
    }


def table_of(found: Mapping[str, Summary]) -> dict[str, Any]:
    """Summaries as plain values."""
    return {name: asdict(one) for name, one in found.items()}


def row_table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Utterances as plain values."""
    return [
        {
            "name": row.name,
            "speaker": row.speaker,
            "seconds": row.seconds,
            "metrics": dict(row.metrics),
            "counts": {k: list(v) for k, v in row.counts.items()},
            "facts": dict(row.facts),
            "timing": dict(row.timing),
            "skipped": row.skipped,
        }
        for row in rows
    ]


def gate_table(gates: Sequence[Gate]) -> list[dict[str, Any]]:
    """Gates as plain values."""
    return [
        {
            "metric": gate.metric,
            "limit": gate.margin.limit,
            "hard": gate.margin.hard,
            "at_least": gate.margin.at_least,
            "verdict": gate.verdict,
            "why": gate.why,
        }
        for gate in gates
    ]


def to_json(result: Any) -> str:
    """JSON text in which what is no number or infinite has become null."""
    return json.dumps(_finite(result), indent=1, allow_nan=False)


def read_result(path: Path) -> dict[str, Any]:
    """A report.json, or the one in a folder. Raises UsageError."""
    file = path / "report.json" if path.is_dir() else path
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} is no report of `edge measure` ({error})") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise UsageError(f"{file}: not a report of schema {SCHEMA}; measure again")
    return found


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return value


def _cpu() -> dict[str, Any]:
    """Model and the flags that kernels are chosen by."""
    wanted = {"avx", "avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "fma", "asimddp"}
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {"model": platform.processor(), "flags": []}
    model, flags = platform.machine(), set[str]()
    for line in path.read_text("utf-8").splitlines():
        key, _, text = line.partition(":")
        if key.strip() in ("model name", "Model"):
            model = text.strip()
        if key.strip() in ("flags", "Features"):
            flags = set(text.split())
    return {"model": model, "flags": sorted(flags & wanted), "cores": os.cpu_count()}
