"""What goes into the bundle and what must not: models, native libraries, licences."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

from apps.packages import closure
from edge.lock import read_lock
from edge.store import ModelStore

# Packages whose own files or libraries PyInstaller does not find by itself.
WITH_DATA = (
    *("hibari", "llama_cpp", "ctranslate2", "onnxruntime", "pywebrtc_audio", "unicode_rbnf"),
    *("tokenizers", "soundfile", "_soundfile_data", "sounddevice"),
)
# Never in the bundle: torch and its kind, what only builds models, and GPL libraries (readline,
# gdbm) that Python loads only for a person at its prompt.
EXCLUDED = [
    *("torch", "moshi", "transformers", "onnx", "onnxscript", "matplotlib", "sympy", "hypothesis"),
    *("pytest", "mypy", "IPython", "tkinter", "PIL", "export", "quant", "scipy", "pandas"),
    # Clients of hubs, and what only benches use.
    *("huggingface_hub", "hf_xet", "httpx2", "httpcore2", "rapidfuzz", "jiwer", "safetensors"),
    *("readline", "rlcompleter", "_gdbm", "dbm.gnu", "gdbm", "_curses", "curses"),
    *("PySide6.QtQml", "PySide6.QtQuick", "PySide6.QtNetwork", "PySide6.QtOpenGL", "PySide6.QtPdf"),
]
GPL_LIBRARIES = re.compile(r"lib(readline|history|gdbm|gdbm_compat|espeak|x264|x265|fftw3)[.-]")
# The system's own must be used: ALSA reads plug-ins that fit it, glibc and drivers likewise.
SYSTEM_LIBRARIES = (
    "libasound.so",
    "libGL.so",
    "libEGL.so",
    "libjack",
    "libdb-",
    "libpulse",
    "libgtk-3",
    "libgdk-3",
)
_HEAVY = ("apps.bench.tts", "apps.bench.plots")


def is_wanted(module: str) -> bool:
    """Whether one of our modules belongs into the bundle."""
    return not module.startswith(_HEAVY)


def starter_files() -> Iterator[tuple[str, Path]]:
    """Files of the starter models: NAME/FILE and where each is; hashes are checked.

    What an installed package carries is in the bundle with that package. Raises
    ModelMissingError, ModelDamagedError.
    """
    store = ModelStore(read_lock())
    for model in store.lock.models:
        if model.starter:
            for relative, path in store.files(model.name).items():
                if path.is_relative_to(store.root.absolute()):
                    yield f"{model.name}/{relative}", path


def portaudio() -> list[tuple[str, str]]:
    """PortAudio, which wheels for Linux do not carry."""
    name = ctypes.util.find_library("portaudio")
    if name is None:
        return []
    for folder in ("/usr/lib", "/usr/lib64", "/usr/local/lib"):
        found = sorted(Path(folder).rglob(name))
        if found:
            return [(str(found[0]), ".")]
    return []


def gpl_binaries(folder: Path) -> list[str]:
    """Libraries in a built bundle that must not be there."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and GPL_LIBRARIES.match(path.name)
    )


def gpl_packages(extras: tuple[str, ...]) -> list[str]:
    """Packages whose metadata says GPL and not also something milder."""
    found = []
    for each in closure(extras).installed:
        facts = each.metadata.json
        classifiers = [c for c in facts.get("classifier", []) if "License" in c]
        named = facts.get("license_expression") or facts.get("license") or ""
        said = " ".join([str(named)[:200], *map(str, classifiers)])
        strict = re.search(r"(?<!L)(?<!Lesser )GPL|(?<!Lesser )General Public License", said)
        if strict and not re.search(r"LGPL|Lesser|exception| OR ", said):
            found.append(each.metadata["Name"])
    return found


def licence_files(extras: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """(package, file) of every licence text that the installed packages carry."""
    for each in closure(extras).installed:
        yield from _licences_of(each)


def _licences_of(distribution: importlib.metadata.Distribution) -> Iterator[tuple[str, Path]]:
    for file in distribution.files or []:
        if re.match(r"(?i)(licen[cs]e|copying|notice|authors)", file.name):
            path = Path(str(distribution.locate_file(file)))
            if path.is_file():
                yield distribution.metadata["Name"], path
