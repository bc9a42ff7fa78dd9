"""A language model's weights in the form that this machine computes with soonest.

llama.cpp has no kernels for several tokens at once of q4_1 weights on x86-64: reading a prompt
costs as much a token as writing. The same numbers written with 8 bits are read twice as fast and
written a sixth faster, for 47 MB more of the starter model; what was lost when it was made q4_1
stays lost, and nothing more is. `edge models fetch` makes the copy, next to the models.

The copy is an artifact: used only if its manifest names the very file of models.lock, and if every
byte is as it was written.
"""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Literal

from edge.errors import ArtifactError
from edge.lock import LockEntry
from edge.manifest import (
    Manifest,
    RecipeRecord,
    SourceRecord,
    read_manifest,
    record_file,
    verify,
    write_manifest,
)
from edge.store import ModelStore
from runtime.backends.ggml import requantize

log = logging.getLogger(__name__)

_KIND = "prepared-llm"
_FILE = "model.gguf"
_TYPE: Literal["q8_0"] = "q8_0"
_SLOW = ("q4_1", "q5_1")
_MACHINES = ("x86_64", "AMD64")


def is_prepared_here(entry: LockEntry) -> bool:
    """Whether this processor gains from another form of a model."""
    gguf = entry.role == "llm" and entry.format == "gguf"
    return gguf and entry.precision in _SLOW and platform.machine() in _MACHINES


def prepared(store: ModelStore, name: str) -> Path | None:
    """The prepared copy of a model, verified just now; None where there is none that is right."""
    entry, home = store.lock.get(name), prepared_home(store, name)
    if not is_prepared_here(entry) or not home.is_dir():
        return None
    try:
        manifest = read_manifest(home)
        made_of = {source.sha256 for source in manifest.sources}
        if made_of != {file.sha256 for file in entry.files}:
            raise ArtifactError(f"{home} was made of another file")
        verify(home, manifest)
    except ArtifactError as error:
        log.warning("%s; the model runs in its own form (edge models fetch %s)", error, name)
        return None
    return home / _FILE


def prepare(store: ModelStore, name: str) -> Path:
    """Make the copy, all or nothing, unless it is here and right; seconds of one core.

    Raises ModelMissingError, ModelDamagedError, MissingPackageError.
    """
    if (done := prepared(store, name)) is not None:
        return done
    entry, home = store.lock.get(name), prepared_home(store, name)
    files = store.files(name)
    (source,) = (path for path in files.values() if path.suffix == ".gguf")
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent) as work:
        folder = Path(work) / "new"
        folder.mkdir()
        requantize(source, folder / _FILE, _TYPE)
        manifest = Manifest(
            _KIND,
            (record_file(folder, _FILE),),
            recipe=RecipeRecord(_TYPE),
            sources=tuple(SourceRecord(file.path, file.sha256) for file in entry.files),
            tools={"llama-cpp-python": importlib.metadata.version("llama-cpp-python")},
        )
        write_manifest(folder, manifest)
        if home.exists():
            shutil.rmtree(home)
        folder.replace(home)
    return home / _FILE


def prepared_home(store: ModelStore, name: str) -> Path:
    """The folder of a model's prepared copy; it need not exist."""
    return store.root / ".prepared" / f"{name}-{_TYPE}"
