"""Which devices this build of llama.cpp can compute on, and which one a model goes to."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import DeviceError, UsageError
from runtime.backends.llama_library import load_library

# ggml_backend_dev_type: a processor is 0; discrete and integrated GPUs are 1 and 2.
_GPU_TYPES = (1, 2)
_MAKE = {"cuda": "make gpu-cuda", "metal": "make gpu-metal"}


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A GPU. name: the build's own, such as CUDA0; description: the maker's."""

    name: str
    description: str
    memory_bytes: int

    @property
    def kind(self) -> str:
        """Either cuda or metal, or the build's name for what is neither."""
        if self.name.startswith("CUDA"):
            return "cuda"
        return "metal" if self.name.startswith(("Metal", "MTL")) else self.name.lower()


def accelerators() -> tuple[Accelerator, ...]:
    """The GPUs that this build of llama.cpp found, fastest first as it lists them.

    Raises MissingPackageError.
    """
    lib = _device_functions()
    found = []
    for i in range(lib.ggml_backend_dev_count()):
        device = lib.ggml_backend_dev_get(i)
        if lib.ggml_backend_dev_type(device) not in _GPU_TYPES:
            continue
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        lib.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        found.append(
            Accelerator(
                lib.ggml_backend_dev_name(device).decode(),
                lib.ggml_backend_dev_description(device).decode(),
                total.value,
            )
        )
    return tuple(found)


def choose_accelerator(device: str, found: Sequence[Accelerator] | None = None) -> str:
    """Where a model goes: "cpu", "cuda", "metal" or another kind.

    device: "auto" takes the first GPU, else the processor. found: None asks the library.
    Raises DeviceError for a GPU that is asked for by name and not there, UsageError.
    """
    if device == "cpu":
        return "cpu"
    if device not in ("auto", *_MAKE):
        raise UsageError(f"unknown device {device!r}; use cpu, cuda, metal or auto")
    there = accelerators() if found is None else found
    kinds = [one.kind for one in there]
    if device == "auto":
        return kinds[0] if kinds else "cpu"
    if device not in kinds:
        raise DeviceError(
            f"device {device}: this build of llama.cpp found none "
            f"(it has {', '.join(kinds) or 'the processor only'}); build for it with "
            f"`{_MAKE[device]}`, or use --device cpu"
        )
    return device


def _device_functions() -> Any:
    """The functions of ggml that list devices, from the library that llama.cpp brings."""
    package = load_library()
    package.llama_backend_init()  # only now are devices looked for
    folder = Path(str(package.__file__)).parent / "lib"
    name = {"darwin": "libggml.dylib", "win32": "ggml.dll"}.get(sys.platform, "libggml.so")
    lib = ctypes.CDLL(str(folder / name))
    lib.ggml_backend_dev_count.restype = ctypes.c_size_t
    lib.ggml_backend_dev_get.restype = ctypes.c_void_p
    lib.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    for function in (lib.ggml_backend_dev_name, lib.ggml_backend_dev_description):
        function.restype, function.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
    lib.ggml_backend_dev_type.restype = ctypes.c_int
    lib.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    sizes = ctypes.POINTER(ctypes.c_size_t)
    lib.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, sizes, sizes]
    lib.ggml_backend_dev_memory.restype = None
    return lib
