"""Mixes of precisions: which of them are worth having, and the best one under a condition.

Damage of one kind is taken to add up over weights. Damages of two kinds, codes that change and
sound that changes, are never added: each kind has weights, states and a budget of its own, and a
mix is as bad as the worse of them, each held against what a uniform file does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edge.errors import UsageError

_MOST_STATES = 4096  # of one kind of damage that are kept while weights are added
_MOST_POINTS = 160  # of a front that is shown
# Precisions of all kinds of files, the same step for about the same bits, most precise first.
_STEPS: Mapping[str, int] = {
    "float": 0, "f16": 1, "w8f": 2, "w8a16": 3, "q8_0": 3, "w8": 3, "q6_K": 4, "q5_K": 5,
    "w4f": 6, "q4_K": 6, "w4": 6, "q3_K": 7,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Option:
    """One precision of one weight: bytes in the file, damage to the whole."""

    precision: str
    size_bytes: int
    damage: float


@dataclass(frozen=True, slots=True)
class Weighed:
    """What every weight can become, most precise first, and which kind of damage it does."""

    options: Mapping[str, Sequence[Option]]
    kinds: Mapping[str, str]

    def of_kind(self, kind: str) -> dict[str, Sequence[Option]]:
        """The weights of one kind."""
        return {label: found for label, found in self.options.items() if self.kinds[label] == kind}

    @property
    def every_kind(self) -> tuple[str, ...]:
        """Kinds of damage, in the model's order."""
        return tuple(dict.fromkeys(self.kinds.values()))

    def added(self, precisions: Mapping[str, str]) -> dict[str, float]:
        """The damages of a mix, weights rounded alone added up, by kind."""
        total = dict.fromkeys(self.every_kind, 0.0)
        for label, one in self._chosen(precisions).items():
            total[self.kinds[label]] += one.damage
        return total

    def size_of(self, precisions: Mapping[str, str]) -> int:
        """Bytes of all weights of a mix."""
        return sum(one.size_bytes for one in self._chosen(precisions).values())

    def _chosen(self, precisions: Mapping[str, str]) -> dict[str, Option]:
        """What every weight becomes in a mix."""
        return {
            label: next(one for one in found if one.precision == precisions[label])
            for label, found in self.options.items()
        }


@dataclass(frozen=True, slots=True)
class Uniform:
    """All weights in one precision, or the nearest more precise one that they can take."""

    precision: str
    size_bytes: int
    damages: Mapping[str, float]
    precisions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Point:
    """The least damaged mix of a size. damage: the worse of the damages, over the yardstick's."""

    size_bytes: int
    damage: float
    damages: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Found:
    """precisions: weight -> what it becomes. damage, damages: as of a Point."""

    precisions: Mapping[str, str]
    size_bytes: int
    damage: float
    damages: Mapping[str, float]


class Mixes:
    """Every mix worth having of one model's weights."""

    def __init__(self, weighed: Weighed, yardstick: Mapping[str, float] | None = None) -> None:
        """yardstick: damages that count as 1, by kind; by default 1 itself."""
        self.weighed = weighed
        self._unit = {kind: (yardstick or {}).get(kind) or 1.0 for kind in weighed.every_kind}
        self._states = {kind: _States(weighed.of_kind(kind)) for kind in weighed.every_kind}

    def of_size(self, target_bytes: int) -> Found:
        """The least damaged of at most so many bytes. Raises UsageError where none is."""
        fitting = [at for at in self._walk() if self._bytes(at) <= target_bytes]
        if not fitting:
            smallest = sum(int(one.sizes[0]) for one in self._states.values())
            raise UsageError(
                f"no mix is so small: the smallest has {smallest} bytes of weights, asked for "
                f"were {target_bytes}"
            )
        return self._found(fitting[0])

    def within(self, budgets: Mapping[str, float]) -> Found:
        """The smallest that does at most so much damage of every kind."""
        return self._found({kind: one.at(budgets[kind]) for kind, one in self._states.items()})

    def front(self) -> tuple[Point, ...]:
        """The least damaged of every size, largest first; of very many a part."""
        walk = self._walk()
        picked = np.unique(np.linspace(0, len(walk) - 1, _MOST_POINTS).astype(int))
        return tuple(
            Point(self._bytes(walk[i]), self.worst(self._damages(walk[i])), self._damages(walk[i]))
            for i in picked
        )

    def worst(self, damages: Mapping[str, float]) -> float:
        """The worse of the damages, each over the yardstick's."""
        return max(damages[kind] / unit for kind, unit in self._unit.items())

    def _walk(self) -> list[dict[str, int]]:
        """Where each kind stands at every damage that any kind can have, the least damage first."""
        levels = {float(v) / self._unit[k] for k, one in self._states.items() for v in one.damages}
        least = max(float(one.damages[-1]) / self._unit[k] for k, one in self._states.items())
        found = [
            {kind: one.at(level * self._unit[kind]) for kind, one in self._states.items()}
            for level in sorted(levels)
            if level >= least
        ]
        return [now for now, after in pairwise([*found, None]) if now != after and now is not None]

    def _bytes(self, at: Mapping[str, int]) -> int:
        return sum(int(one.sizes[at[kind]]) for kind, one in self._states.items())

    def _damages(self, at: Mapping[str, int]) -> dict[str, float]:
        return {kind: float(one.damages[at[kind]]) for kind, one in self._states.items()}

    def _found(self, at: Mapping[str, int]) -> Found:
        chosen: dict[str, str] = {}
        for kind, one in self._states.items():
            chosen |= one.choices(at[kind])
        precisions = {label: chosen[label] for label in self.weighed.options}
        damages = self._damages(at)
        return Found(precisions, self._bytes(at), self.worst(damages), damages)


class _States:
    """Weights of one kind: every sum of sizes that no smaller one is as little damaged as.

    sizes: int64, rising; damages: float64, falling.
    """

    def __init__(self, options: Mapping[str, Sequence[Option]]) -> None:
        self._options = options
        self._stages: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        self.sizes, self.damages = np.zeros(1, np.int64), np.zeros(1)
        for found in options.values():
            self._add(found)

    def at(self, damage: float) -> int:
        """The smallest state of at most so much damage; the least damaged one where none is."""
        low_enough = self.damages <= damage * (1 + 1e-9)
        return int(low_enough.argmax()) if low_enough.any() else len(self.damages) - 1

    def choices(self, at: int) -> dict[str, str]:
        """The precision of each weight in a state."""
        chosen = {}
        for (label, found), (before, which) in zip(
            reversed(list(self._options.items())), reversed(self._stages), strict=True
        ):
            chosen[label] = found[which[at]].precision
            at = int(before[at])
        return chosen

    def _add(self, found: Sequence[Option]) -> None:
        n = len(self.sizes)
        sizes = np.concatenate([self.sizes + one.size_bytes for one in found])
        damages = np.concatenate([self.damages + one.damage for one in found])
        order = np.lexsort((damages, sizes))
        least = np.minimum.accumulate(damages[order])
        kept = order[np.flatnonzero(np.diff(least, prepend=np.inf) < 0)]
        if len(kept) > _MOST_STATES:
            span = sizes[kept] - sizes[kept[0]]
            cell = span * _MOST_STATES // (span[-1] + 1)
            last = np.flatnonzero(np.diff(cell, append=_MOST_STATES) > 0)
            kept = kept[np.union1d([0], last)]
        self.sizes, self.damages = sizes[kept], damages[kept]
        self._stages.append((kept % n, kept // n))


def uniforms(weighed: Weighed) -> tuple[Uniform, ...]:
    """One for each step of precision that every weight can take, or a finer one, largest first.

    Kinds of files have names of their own for a step: such a file is "all q8_0/w8".
    """
    found = {one.precision for options in weighed.options.values() for one in options}
    made = []
    finest = max(_STEPS[options[0].precision] for options in weighed.options.values())
    for step in sorted({_STEPS[name] for name in found if _STEPS[name] >= finest}):
        taken = {
            label: [one.precision for one in options if _STEPS[one.precision] <= step][-1]
            for label, options in weighed.options.items()
        }
        names = [name for name in _STEPS if _STEPS[name] == step and name in found]
        size, damages = weighed.size_of(taken), weighed.added(taken)
        made.append(Uniform("/".join(names), size, damages, taken))
    return tuple(sorted(made, key=lambda one: -one.size_bytes))


def as_recipe(found: Found, section: str, name: str, speech: Mapping[str, str]) -> str:
    """The mix as a recipe: a rule for each precision. speech: hash -> clip that it was found on."""
    lines = [f'name = "{name}"', 'about = "Found by edge quantize search."']
    if speech:
        clips = ", ".join(json.dumps(f"{sha256} {clip}") for sha256, clip in sorted(speech.items()))
        lines.append(f"speech = [{clips}]")
    for precision, pattern in patterns(found.precisions).items():
        lines += ["", f"[[{section}]]", f"match = '{pattern}'", f'to = "{precision}"']
    return "\n".join(lines) + "\n"


def patterns(precisions: Mapping[str, str]) -> dict[str, str]:
    """For each precision a regular expression of the labels that become it."""
    labels: dict[str, list[str]] = {}
    for label, precision in precisions.items():
        labels.setdefault(precision, []).append(re.escape(label))
    return {precision: "|".join(found) for precision, found in labels.items()}
