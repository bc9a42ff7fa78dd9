"""Which GPU the duplex model can use here, and why not."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from apps.checks.check import Check
from runtime.backends.accelerators import Accelerator

ONNX_BUILDS = ("onnxruntime", "onnxruntime-gpu")


def llama_devices(found: Sequence[Accelerator], *, nvidia: bool, apple: bool) -> Check:
    """What llama.cpp can compute on. nvidia, apple: whether this machine has such a GPU."""
    if found:
        first = found[0]
        detail = f"{first.name}, {first.description}, {first.memory_bytes / 1e9:.1f} GB: in use"
        return Check("gpu, llama.cpp", "ok", detail)
    if nvidia or apple:
        what, make = ("NVIDIA GPU", "gpu-cuda") if nvidia else ("Apple GPU", "gpu-metal")
        detail = f"the processor only: this build of llama.cpp does not know the {what} here"
        return Check("gpu, llama.cpp", "warn", detail, f"run: make {make}")
    return Check("gpu, llama.cpp", "ok", "the processor only: no GPU was found on this machine")


def onnx_devices(builds: Collection[str], providers: Collection[str], *, nvidia: bool) -> Check:
    """What onnxruntime can compute on. builds: which of its distributions are installed."""
    names = [name.removesuffix("ExecutionProvider") for name in providers]
    fast = [name for name in names if name in ("CUDA", "CoreML", "TensorRT")]
    if len(builds) > 1:
        remedy = (
            "run: pip uninstall -y onnxruntime onnxruntime-gpu, then install one of them; "
            "`make gpu-cuda` does so"
        )
        detail = "onnxruntime and onnxruntime-gpu are both installed: one hides the other"
        return Check("gpu, onnxruntime", "fail", detail, remedy)
    if fast:
        detail = f"{', '.join(fast)} can be used: set duplex.depth_device or duplex.codec_device"
        return Check("gpu, onnxruntime", "ok", detail)
    why = "this is the build for processors" if nvidia else "no GPU was found on this machine"
    return Check("gpu, onnxruntime", "ok", f"the processor only: {why}")


def check_llama_devices() -> Check:
    """This build of llama.cpp on this machine."""
    from runtime.backends.accelerators import accelerators

    return llama_devices(accelerators(), nvidia=has_nvidia(), apple=has_apple_gpu())


def check_onnx_devices() -> Check:
    """The onnxruntime that is installed here."""
    from runtime.backends.ort import available_providers

    builds = [name for name in ONNX_BUILDS if _installed(name)]
    return onnx_devices(builds, available_providers(), nvidia=has_nvidia())


def has_nvidia() -> bool:
    """Whether there is an NVIDIA GPU with its driver; Jetson boards have a device of their own."""
    there = any(Path(path).exists() for path in ("/dev/nvidia0", "/dev/nvhost-gpu", "/dev/nvgpu"))
    return there or shutil.which("nvidia-smi") is not None


def has_apple_gpu() -> bool:
    """Whether this is a Mac: all that edgevoice supports have a GPU that Metal can use."""
    return sys.platform == "darwin"


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
