"""`edge quantize inspect`: a model's weights, their sizes and what is unusual about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from quant.subject import Item, Subject
from quant.values import Values

_MAX_ROWS = 64  # of a GGUF's matrix: enough for its shape
OUTLIER = 20.0  # of the root mean square: a weight so far out spoils its whole block


@dataclass(frozen=True, slots=True)
class Facts:
    """One weight. peak: largest value over the root mean square. zero: share of zeros."""

    label: str
    kind: str
    shape: tuple[int, ...]
    stored: str
    n_values: int
    rms: float
    peak: float
    zero: float

    @property
    def outliers(self) -> bool:
        """Whether it has weights that will cost the others precision."""
        return self.peak > OUTLIER


def inspect(
    subject: Subject, *, on_progress: Callable[[str, int, int], None] = lambda *_: None
) -> list[Facts]:
    """Look at every weight; large matrices by 64 rows spread over them."""
    values = Values(subject)
    found = []
    for done, item in enumerate(subject.items):
        on_progress("looking at weights", done, len(subject.items))
        found.append(_facts(item, values))
    on_progress("looking at weights", len(subject.items), len(subject.items))
    return found


def _facts(item: Item, values: Values) -> Facts:
    array = values.read(item, n_rows=_MAX_ROWS)
    rms = float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))
    return Facts(
        label=item.label,
        kind=item.weight.kind if item.weight else "matrix",
        shape=item.shape,
        stored=values.stored(item) if item.tensor else item.stored,
        n_values=item.n_values,
        rms=rms,
        peak=float(np.abs(array).max()) / rms if rms else 0.0,
        zero=float(np.mean(array == 0)),
    )
