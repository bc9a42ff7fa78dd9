"""The configured models: here, and the ones that models.lock names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from apps.checks.check import Check, Probe
from edge.lock import read_lock
from edge.store import FileCheck, ModelStore, size_text


def model(name: str, size_bytes: int | None, files: Sequence[FileCheck], *, hashed: bool) -> Check:
    """What was found of one model. hashed: whether the files' contents were read."""
    label = f"model {name}"
    remedy = f"run: edge models fetch {name}"
    for file in files:
        if file.state == "damaged":
            return Check(label, "fail", f"{file.path} is damaged: {file.fault}", remedy)
    missing = [file.file.path for file in files if file.state == "missing"]
    if missing:
        detail = f"{size_text(size_bytes)}, not here: {', '.join(missing)}"
        return Check(label, "fail", detail, remedy)
    how = "sha256 as in models.lock" if hashed else "sizes as in models.lock"
    return Check(label, "ok", f"{size_text(size_bytes)}, {how}")


def check_model(name: str, *, hashed: bool) -> Check:
    """One model of the lock, on this machine."""
    lock = read_lock()
    files = ModelStore(lock).check(name, hashed=hashed)
    return model(name, lock.get(name).size_bytes, files, hashed=hashed)


def model_probes(*, hashed: bool) -> list[Probe]:
    """A check for each model of the starter set."""
    names = [entry.name for entry in read_lock().starter()]
    return [Probe(f"model {name}", partial(check_model, name, hashed=hashed)) for name in names]
