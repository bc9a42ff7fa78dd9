"""Installing, checking and removing an appliance: what was written is remembered with its sha256.

Run twice it changes nothing. Settings that the owner has changed are kept, in an installation and
in a removal; everything else is put back as it belongs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from apps.appliance.layout import Planned
from apps.checks.check import Check
from edge.atomic import write_text
from edge.errors import EdgeError
from edge.paths import make_dir

MANIFEST = PurePosixPath("/var/lib/edgevoice-appliance/manifest.json")

Action = Literal["write", "keep", "same", "remove", "missing"]


@dataclass(frozen=True, slots=True)
class Step:
    """What is done, or would be, with one file. why: for people."""

    action: Action
    path: PurePosixPath
    why: str = ""


def sha256_of_text(text: str) -> str:
    """Of its UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def under(root: Path, path: PurePosixPath) -> Path:
    """Where a file of the machine lies, if the machine's root is at `root`."""
    return root / path.relative_to("/")


def install(files: Iterable[Planned], root: Path, *, dry_run: bool = False) -> tuple[Step, ...]:
    """Write every file that is not as planned. Raises EdgeError."""
    written = read_manifest(root)
    steps = []
    for planned in files:
        place = under(root, planned.path)
        now = _sha256(place)
        wanted = sha256_of_text(planned.text)
        if now == wanted:
            steps.append(Step("same", planned.path))
        elif planned.settings and now is not None and now != written.get(str(planned.path)):
            steps.append(Step("keep", planned.path, "you have changed it"))
            continue
        else:
            steps.append(Step("write", planned.path, "changed" if now else "new"))
            if not dry_run:
                make_dir(place.parent)
                write_text(place, planned.text)
                place.chmod(planned.mode)
        written[str(planned.path)] = wanted
    if not dry_run:
        _write_manifest(root, written)
    return tuple(steps)


def uninstall(root: Path, *, dry_run: bool = False) -> tuple[Step, ...]:
    """Remove what was installed and is as it was written. Raises EdgeError."""
    written = read_manifest(root)
    steps = []
    for name, sha256 in written.items():
        path = PurePosixPath(name)
        place = under(root, path)
        now = _sha256(place)
        if now is None:
            steps.append(Step("missing", path))
        elif now != sha256:
            steps.append(Step("keep", path, "it has been changed"))
        else:
            steps.append(Step("remove", path))
            if not dry_run:
                place.unlink()
    if not dry_run:
        under(root, MANIFEST).unlink(missing_ok=True)
    return tuple(steps)


def check(root: Path) -> tuple[Check, ...]:
    """A line for each file that was installed; empty where nothing was."""
    lines = []
    for name, sha256 in read_manifest(root).items():
        now = _sha256(under(root, PurePosixPath(name)))
        if now is None:
            lines.append(Check(name, "fail", "missing", "edge appliance install"))
        elif now != sha256:
            status: Literal["ok", "warn"] = "ok" if name.endswith(".toml") else "warn"
            lines.append(Check(name, status, "changed since it was installed"))
        else:
            lines.append(Check(name, "ok", "as installed"))
    return tuple(lines)


def read_manifest(root: Path) -> dict[str, str]:
    """What was written: path -> sha256. Raises EdgeError where the record is damaged."""
    place = under(root, MANIFEST)
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise EdgeError(f"{place} cannot be read ({error}); remove it and install again") from error
    if not isinstance(found, dict):
        raise EdgeError(f"{place} is damaged; remove it and install again")
    return {str(name): str(value) for name, value in found.items()}


def _write_manifest(root: Path, written: dict[str, str]) -> None:
    place = under(root, MANIFEST)
    make_dir(place.parent)
    write_text(place, json.dumps(written, indent=1, sort_keys=True) + "\n")


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EdgeError(f"{path} cannot be read: {error.strerror}") from error
