"""What is found out of one utterance, in whatever kind of model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Row:
    """One utterance, measured. metrics: name -> value, as gates and report name them.

    counts: name -> (wrong, total), for rates over everything. facts: values of the arms
    themselves, "reference.pesq" for instance. sounds: arm -> file with its samples (.npy,
    float32). timing: arm -> seconds of work per second of sound.
    """

    name: str
    speaker: str
    seconds: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)
    sounds: Mapping[str, str] = field(default_factory=dict)
    timing: Mapping[str, float] = field(default_factory=dict)
    skipped: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)
