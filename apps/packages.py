"""What is installed of edgevoice's dependencies, read from the packages' own metadata."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = "edgevoice"
EXTRAS = ("audio", "aec", "cascade", "talk", "export", "quant", "plots", "tray", "cluster", "dev")

Find = Callable[[str], Distribution]


@dataclass(frozen=True, slots=True)
class Closure:
    """All that a set of extras brings. installed: sorted by name, edgevoice itself left out."""

    installed: tuple[Distribution, ...]
    missing: tuple[str, ...]


def closure(
    extras: Iterable[str], *, root: str = ROOT, find: Find = importlib.metadata.distribution
) -> Closure:
    """Follow the requirements of root with these extras as far as they are installed here.

    Markers are evaluated for this machine, so the result holds for this platform and Python.
    """
    waiting = [Requirement(f"{root}[{','.join(extras)}]")]
    asked: set[tuple[str, str]] = set()
    found: dict[str, Distribution] = {}
    missing: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        try:
            distribution = found.get(name) or find(name)
        except PackageNotFoundError:
            missing.add(name)
            continue
        found[name] = distribution
        for extra in ("", *requirement.extras):
            if (name, extra) not in asked:
                asked.add((name, extra))
                waiting += _requirements(distribution, extra)
    found.pop(canonicalize_name(root), None)
    return Closure(tuple(found[name] for name in sorted(found)), tuple(sorted(missing)))


def _requirements(distribution: Distribution, extra: str) -> Iterator[Requirement]:
    """What a distribution needs here with one extra (or none, "")."""
    for text in distribution.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None:
            if not extra:
                yield requirement
        elif requirement.marker.evaluate({"extra": extra}):
            yield requirement
