"""Rows that were measured before an interrupt, so that they are not measured again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from quant.measure.rows import Row
from quant.measure.workers import Make, Work


@dataclass(frozen=True, slots=True)
class Journal:
    """Does work as another does, and keeps what comes of one arm in a file of JSON lines.

    arm: the model whose rows are kept; others, such as the controls, lie in folders of a moment.
    """

    work: Work
    path: Path
    arm: str

    def __call__(
        self, make: Make, arguments: tuple[Any, ...], jobs: Sequence[Any], *, n_workers: int = 1
    ) -> Iterator[tuple[int, Any]]:
        """Give what is in the file first, then what is left to do."""
        known = self._read()
        keys = [self._key(make, arguments, job) for job in jobs]
        left = [i for i, key in enumerate(keys) if key not in known]
        for i, key in enumerate(keys):
            if key in known:
                yield i, known[key]
        if not left:
            return
        for at, row in self.work(make, arguments, [jobs[i] for i in left], n_workers=n_workers):
            key = keys[left[at]]
            if key and isinstance(row, Row):
                with self.path.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps({"key": key, "row": asdict(row)}) + "\n")
            yield left[at], row

    def _key(self, make: Make, arguments: tuple[Any, ...], job: Any) -> str:
        """What a row depends on; "" for jobs of other arms."""
        arm, clip = job
        if arm != self.arm:
            return ""
        said = (make.__module__, make.__qualname__, arguments, arm, clip.name, clip.sha256)
        return hashlib.sha256(repr(said).encode()).hexdigest()

    def _read(self) -> dict[str, Row]:
        """Whole lines whose sounds are still there; a line cut short by a kill is passed over."""
        found = {}
        try:
            lines = self.path.read_text("utf-8").splitlines()
        except OSError:
            return {}
        for line in lines:
            try:
                entry = json.loads(line)
                row = Row(**entry["row"])
            except (ValueError, TypeError, KeyError):
                continue
            if all(Path(name).is_file() for name in row.sounds.values()):
                found[str(entry["key"])] = row
        return found
