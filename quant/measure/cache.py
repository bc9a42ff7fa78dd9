"""Results of the float side, kept by hash: what did not change is not computed again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.atomic import atomic_path, write_text
from edge.paths import cache_dir, make_dir

# Goes into every key: raise it when what is computed changes.
VERSION = 1


class Cache:
    """A folder of arrays and of figures; a file that is damaged counts as not there."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = make_dir(folder or cache_dir() / "measure")

    def path(self, *parts: str, ending: str) -> Path:
        """Where something with that identity lies."""
        key = hashlib.sha256("\n".join((str(VERSION), *parts)).encode()).hexdigest()
        return self.folder / f"{key}{ending}"

    def arrays(
        self, parts: tuple[str, ...], make: Callable[[], Mapping[str, NDArray[Any]]]
    ) -> dict[str, NDArray[Any]]:
        """Arrays by name, made now where they are not there."""
        path = self.path(*parts, ending=".npz")
        try:
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, KeyError):
            made = dict(make())
        with atomic_path(path) as part, part.open("wb") as stream:
            np.savez(stream, **made)  # type: ignore[arg-type]
        return made

    def figures(
        self, parts: tuple[str, ...], make: Callable[[], Mapping[str, float]]
    ) -> dict[str, float]:
        """Figures by name, made now where they are not there; NaN survives."""
        kept = self.kept(parts)
        if kept is None:
            kept = self.keep(parts, make())
        return kept

    def keep(self, parts: tuple[str, ...], figures: Mapping[str, float]) -> dict[str, float]:
        """Keep figures; returns them."""
        write_text(self.path(*parts, ending=".json"), json.dumps(dict(figures)))
        return dict(figures)

    def kept(self, parts: tuple[str, ...]) -> dict[str, float] | None:
        """Figures that are there already, or None."""
        path = self.path(*parts, ending=".json")
        try:
            return {str(k): float(v) for k, v in json.loads(path.read_text("utf-8")).items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return None

    def sound(self, parts: tuple[str, ...], pcm: NDArray[np.float32]) -> str:
        """Keep a sound for the report; returns its file."""
        path = self.path(*parts, ending=".npy")
        if not path.is_file():
            with atomic_path(path) as part, part.open("wb") as stream:
                np.save(stream, pcm)
        return str(path)
