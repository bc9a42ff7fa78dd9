"""The speech that is measured on: a folder with a manifest, every file checked, its hash known."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.errors import UsageError
from edge.hashing import sha256_of

_ENDINGS = (".wav", ".flac", ".ogg", ".opus", ".mp3")
_NEEDED = ("file", "speaker")

# What must stand above figures of such weights, of such speech.
UNTRAINED = "untrained weights: no claim about sound"
SYNTHETIC = "synthetic speech: no absolute claim about quality"


@dataclass(frozen=True, slots=True)
class Utterance:
    """One clip. text: what is said in it, "" where that is not known. synthetic: not a person."""

    name: str
    path: Path
    speaker: str
    sha256: str
    text: str = ""
    synthetic: bool = False


@dataclass(frozen=True, slots=True)
class Speech:
    """A set of clips. unit: what `speaker` tells apart and what resampling draws whole."""

    folder: Path
    utterances: tuple[Utterance, ...]
    unit: str = "speakers"

    @property
    def sha256(self) -> str:
        """Changes when any clip does."""
        joined = "\n".join(sorted(one.sha256 for one in self.utterances))
        return hashlib.sha256(joined.encode()).hexdigest()

    @property
    def speakers(self) -> dict[str, str]:
        """Utterance -> speaker."""
        return {one.name: one.speaker for one in self.utterances}

    @property
    def synthetic(self) -> bool:
        """Whether any of it was not spoken by a person."""
        return any(one.synthetic for one in self.utterances)


def read_speech(folder: Path, *, limit: int | None = None) -> Speech:
    """The clips that folder/manifest.tsv lists; without a manifest, every sound file in it.

    Columns: file, speaker, and if there are any transcript, source, sha256. Without a manifest each
    file is its own speaker's. Raises UsageError: no such folder, a clip that is missing, or whose
    hash differs.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; give one with speech: --speech DIR")
    table = folder / "manifest.tsv"
    found = _listed(folder, table) if table.is_file() else _all_files(folder)
    if limit is not None:
        found = _spread(found, limit)
    if not found:
        raise UsageError(f"{folder} holds no sound files")
    return Speech(folder, tuple(found))


def check_disjoint(speech: Speech, calibration_sha256: Sequence[str]) -> None:
    """Refuse to evaluate on what was calibrated on. Raises UsageError."""
    used = set(calibration_sha256)
    both = [one.name for one in speech.utterances if one.sha256 in used]
    if both:
        raise UsageError(
            f"{len(both)} of the clips, {both[0]} among them, were used for calibration; "
            "measure on other speech"
        )


def _listed(folder: Path, table: Path) -> list[Utterance]:
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    missing = [name for name in _NEEDED if not rows or name not in rows[0]]
    if missing:
        raise UsageError(f"{table}: the column {missing[0]} is missing; it needs file and speaker")
    found = []
    for row in rows:
        path = folder / row["file"]
        if not path.is_file():
            raise UsageError(f"{table} lists {row['file']}, which is not there")
        sha256 = sha256_of(path)
        if row.get("sha256") and row["sha256"] != sha256:
            raise UsageError(f"{path} is not the file that {table.name} lists: its sha256 differs")
        found.append(
            Utterance(
                path.stem, path, row["speaker"], sha256, (row.get("transcript") or "").strip(),
                "synth" in (row.get("source") or "").lower(),
            )
        )  # fmt: skip
    return found


def _all_files(folder: Path) -> list[Utterance]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _ENDINGS)
    return [Utterance(path.stem, path, path.stem, sha256_of(path)) for path in files]


def _spread(found: Sequence[Utterance], limit: int) -> list[Utterance]:
    """The first of every speaker, then the second of each, until there are enough."""
    rank: dict[str, int] = {}
    order = []
    for one in found:
        rank[one.speaker] = rank.get(one.speaker, 0) + 1
        order.append((rank[one.speaker], one))
    order.sort(key=lambda pair: pair[0])
    kept = {one.name for _, one in order[:limit]}
    return [one for one in found if one.name in kept]
