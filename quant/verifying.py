"""`edge quantize verify`: hashes, a round trip of every weight, and the same bytes once more."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.errors import ArtifactError
from quant.recipe import Recipe
from quant.run import quantize
from quant.subject import Subject, check_lineage
from quant.values import Values, sqnr_db


@dataclass(frozen=True, slots=True)
class Verified:
    """n_files: whose hashes agree. sqnr_db: by weight, against the source where it was given.

    same_bytes: whether quantizing the source again gave the same files; None where not tried.
    """

    n_files: int
    n_weights: int
    sqnr_db: dict[str, float]
    same_bytes: bool | None

    @property
    def passed(self) -> bool:
        """Whether nothing is amiss."""
        return self.same_bytes is not False and not any(map(math.isnan, self.sqnr_db.values()))


def verify_round_trip(
    artifact: Subject,
    source: Subject | None,
    recipe: Recipe | None,
    *,
    calibration: Path | None = None,
    on_progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Verified:
    """Check an artifact whose hashes were compared when it was opened.

    source: the float model it was made from: its weights are read beside the artifact's, and with
    a recipe it is quantized again, to compare bytes. Raises ArtifactError for a weight that cannot
    be read back or holds what is no number, UsageError for another source.
    """
    assert artifact.manifest is not None
    found: dict[str, float] = {}
    items = artifact.items if source is None else source.items
    ours = Values(artifact)
    theirs = Values(source) if source else None
    if source is not None:
        check_lineage(source, artifact)
    for done, item in enumerate(items):
        on_progress("reading weights back", done, len(items))
        values = ours.read(item)
        if not np.isfinite(values).all():
            raise ArtifactError(f"{item.label} holds what is no number; quantize again")
        if theirs is not None:
            found[item.label] = sqnr_db(theirs.read(item), values)
    on_progress("reading weights back", len(items), len(items))
    same = None
    if source is not None and recipe is not None:
        same = _same_bytes(artifact, source, recipe, calibration, on_progress)
    return Verified(len(artifact.manifest.files), len(items), found, same)


def _same_bytes(
    artifact: Subject,
    source: Subject,
    recipe: Recipe,
    calibration: Path | None,
    on_progress: Callable[[str, int, int], None],
) -> bool:
    assert artifact.manifest is not None
    with tempfile.TemporaryDirectory(dir=artifact.path.parent, prefix=".verify-") as scratch:
        made = quantize(
            source, recipe, Path(scratch) / "again", calibration=calibration,
            on_progress=on_progress,
        )  # fmt: skip
        from edge.manifest import read_manifest

        again = {one.path: one.sha256 for one in read_manifest(made.directory).files}
    first = {one.path: one.sha256 for one in artifact.manifest.files}
    return {path: first[path] for path in again if path in first} == again
