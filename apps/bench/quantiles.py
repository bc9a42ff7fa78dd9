"""The two figures of a bench's latencies, and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """p50 and p95 to a tenth; {} for none."""
    if not values:
        return {}
    return {f"p{int(q * 100)}": round(float(np.quantile(values, q)), 1) for q in (0.5, 0.95)}


def shown(found: Mapping[str, float]) -> str:
    """Both in a word: "488 / 725", "-" where there was nothing to measure."""
    return f"{found['p50']:.0f} / {found['p95']:.0f}" if found else "-"
