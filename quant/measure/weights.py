"""The first level: how far the weights themselves have moved, tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable

from edge.errors import ArtifactError
from quant.subject import Subject
from quant.values import Values, sqnr_db

_ROWS = 256  # of a GGUF's matrix: an estimate within a tenth of a decibel


def weight_errors(
    reference: Subject,
    candidate: Subject,
    *,
    on_progress: Callable[[str, int, int], None] = lambda *_: None,
) -> dict[str, float]:
    """Signal to quantization noise of every weight in dB, infinite where it has not changed.

    Raises ArtifactError where the candidate lacks one of them.
    """
    theirs, ours = Values(reference), Values(candidate)
    found = {}
    for done, item in enumerate(reference.items):
        on_progress("comparing weights", done, len(reference.items))
        want = theirs.read(item, n_rows=_ROWS)
        got = ours.read(item, n_rows=_ROWS)
        if want.shape != got.shape:
            raise ArtifactError(
                f"{item.label} has the shape {got.shape} in the candidate and {want.shape} in the "
                "reference; they are not the same model"
            )
        found[item.label] = sqnr_db(want, got)
    on_progress("comparing weights", len(reference.items), len(reference.items))
    return found
