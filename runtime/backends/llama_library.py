"""The llama_cpp package and the libraries in it: found, loaded, their log sent to ours."""

from __future__ import annotations

import ctypes
import importlib
import logging
import sys
from pathlib import Path
from typing import Any

from edge.errors import MissingPackageError

log = logging.getLogger(__name__)

_WARN_LEVEL = 3  # ggml_log_level: 1 debug/none, 2 info, 3 warn, 4 error (5 continues a line)


def load_library() -> Any:
    """The llama_cpp package with its log sent to ours. Raises MissingPackageError."""
    try:
        lib = importlib.import_module("llama_cpp")
    except ImportError as error:
        raise MissingPackageError(
            "llama-cpp-python", extra="cascade", needed_for="a GGUF model"
        ) from error
    if not hasattr(lib, "edgevoice_log_callback"):
        lib.llama_log_set(_log_callback(lib), ctypes.c_void_p(0))
    return lib


def _log_callback(lib: Any) -> Any:
    """A C callback that hands llama.cpp's warnings to logging; kept alive on the package itself."""

    def receive(level: int, text: bytes, _data: object) -> None:
        if level >= _WARN_LEVEL:
            log.debug("llama.cpp: %s", text.decode("utf-8", "replace").rstrip())

    callback = lib.llama_log_callback(receive)
    lib.edgevoice_log_callback = callback
    return callback


def load_ggml() -> ctypes.CDLL:
    """The library of tensors and quantizers beneath it. Raises MissingPackageError."""
    package = Path(str(load_library().__file__)).parent / "lib"
    ending = {"darwin": "libggml-base.dylib", "win32": "ggml-base.dll"}.get(
        sys.platform, "libggml-base.so"
    )
    try:
        return ctypes.CDLL(str(package / ending))
    except OSError as error:
        raise MissingPackageError(
            "llama-cpp-python", extra="quant", needed_for="quantizing a GGUF"
        ) from error
