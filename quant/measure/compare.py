"""Two results side by side: what is better, what is worse, and whether that is a regression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge.errors import UsageError


def compare_results(
    baseline: Mapping[str, Any], candidate: Mapping[str, Any], *, tenths: float = 1.0
) -> dict[str, Any]:
    """Metrics of two candidates of one reference on one set of speech, those with gates.

    tenths: of the way from a gate's limit to its hard one that may be lost. Raises UsageError where
    the two were not measured alike.
    """
    for part, key in (("speech", "sha256"), ("reference", "fingerprint")):
        ours, theirs = (one[part].get(key) for one in (candidate, baseline))
        if ours != theirs:
            raise UsageError(
                f"the two reports are of another {part}; measure both against the same one"
            )
    rows, lost, unknown = [], 0, []
    for gate in baseline["gates"]:
        name = gate["metric"]
        before, after = (one["metrics"].get(name) for one in (baseline, candidate))
        if before is None or before["mean"] is None:
            continue
        if after is None or after["mean"] is None:
            unknown.append(name)
            continue
        sign = 1 if gate["at_least"] else -1
        allowed = abs(gate["limit"] - gate["hard"]) * tenths / 10
        worse = sign * (before["mean"] - after["mean"])
        said = "worse" if worse > allowed else "better" if worse < 0 else "same"
        lost += said == "worse"
        rows.append(
            {
                "metric": name,
                "baseline": before["mean"],
                "candidate": after["mean"],
                "allowed_loss": allowed,
                "said": said,
            }
        )
    sizes = {
        "baseline": baseline["candidate"]["size_bytes"],
        "candidate": candidate["candidate"]["size_bytes"],
    }
    verdict = "fail" if lost else "inconclusive" if unknown or not rows else "pass"
    return {"verdict": verdict, "metrics": rows, "no_longer_measured": unknown, "size_bytes": sizes}
