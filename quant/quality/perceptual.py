"""Perceptual comparisons by other people's packages: PESQ, STOI and ViSQOL, at 16 kHz.

The only place that knows them. Each is optional: where one is not installed, the reason is a line
that goes into the report in place of its figures.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Compare = Callable[[Float32, Float32], float]

RATE_HZ = 16_000
_LEAST_S = 0.5
_ESTOI_DECIMALS = 9


def pesq_wb() -> Compare | str:
    """PESQ, wide band, 1.04..4.64. The package's ITU code restricts commercial use."""
    library = _load("pesq", "quality-pesq")
    if isinstance(library, str):
        return library

    def compare(reference: Float32, other: Float32) -> float:
        try:
            return float(library.pesq(RATE_HZ, reference, other, "wb"))
        except Exception:  # noqa: BLE001 - its own types, for clips without speech
            return float("nan")

    return compare


def estoi() -> Compare | str:
    """Extended short-time intelligibility, 0..1, to nine decimals.

    Further ones depend on where the samples lie in memory, and equal sounds must score equally.
    """
    library = _load("pystoi", "quality")
    if isinstance(library, str):
        return library

    def compare(reference: Float32, other: Float32) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it warns where there is too little speech
            try:
                score = float(library.stoi(reference, other, RATE_HZ, extended=True))
            except RuntimeWarning:
                return float("nan")
        return round(score, _ESTOI_DECIMALS)

    return compare


def visqol() -> Compare | str:
    """ViSQOL for speech, 1..5. Without its lattice network it over-predicts, so that is wanted."""
    for package in ("ai_edge_litert", "numba"):
        missing = _load(package, "quality", only_look=True)
        if isinstance(missing, str):
            return missing
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    library = _load("visqol", "quality")
    if isinstance(library, str):
        return library
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        api = library.VisqolApi()
        api.create(mode="speech")

    def compare(reference: Float32, other: Float32) -> float:
        if len(reference) < _LEAST_S * RATE_HZ:
            return float("nan")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = api.measure_from_arrays(
                reference.astype(np.float64), other.astype(np.float64), RATE_HZ
            )
        return float(found.moslqo)

    return compare


def versions() -> dict[str, str]:
    """Version of each package that is here."""
    found = {}
    for name in ("pesq", "pystoi", "visqol-python", "ai-edge-litert", "scipy"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _load(name: str, extra: str, *, only_look: bool = False) -> Any:
    """The module, or a line that says what is missing."""
    import importlib.util

    if importlib.util.find_spec(name) is None:
        return f"the package {name} is not installed: pip install 'edgevoice[{extra}]'"
    return None if only_look else importlib.import_module(name)
