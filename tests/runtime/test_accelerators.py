"""Which device a model goes to, and what doctor says about it."""

from __future__ import annotations

import importlib.util

import pytest

from apps.checks.accelerators import llama_devices, onnx_devices
from edge.errors import DeviceError, UsageError
from runtime.backends.accelerators import Accelerator, accelerators, choose_accelerator

CUDA = Accelerator("CUDA0", "NVIDIA Orin", 32 * 10**9)
METAL = Accelerator("Metal", "Apple M3", 24 * 10**9)


def test_auto_takes_the_first_gpu_else_the_processor() -> None:
    assert choose_accelerator("auto", ()) == "cpu"
    assert choose_accelerator("auto", (CUDA,)) == "cuda"
    assert choose_accelerator("auto", (METAL, CUDA)) == "metal"
    assert choose_accelerator("cpu", (CUDA,)) == "cpu"
    assert choose_accelerator("cuda", (CUDA,)) == "cuda"


def test_a_gpu_that_is_not_there_is_refused_with_the_command_to_build_for_it() -> None:
    with pytest.raises(DeviceError, match="make gpu-cuda"):
        choose_accelerator("cuda", ())
    with pytest.raises(DeviceError, match="it has cuda"):
        choose_accelerator("metal", (CUDA,))
    with pytest.raises(UsageError, match="unknown device"):
        choose_accelerator("tpu", (CUDA,))


@pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="needs llama-cpp-python")
def test_this_build_lists_its_devices() -> None:
    assert all(one.memory_bytes >= 0 and one.name for one in accelerators())


def test_doctor_says_which_is_active_and_why_not() -> None:
    active = llama_devices((CUDA,), nvidia=True, apple=False)
    assert (active.status, "NVIDIA Orin" in active.detail) == ("ok", True)
    unused = llama_devices((), nvidia=True, apple=False)
    assert (unused.status, unused.remedy) == ("warn", "run: make gpu-cuda")
    assert llama_devices((), nvidia=False, apple=True).remedy == "run: make gpu-metal"
    assert llama_devices((), nvidia=False, apple=False).status == "ok"


def test_doctor_refuses_two_builds_of_onnxruntime() -> None:
    cpu = ("CPUExecutionProvider",)
    assert onnx_devices(("onnxruntime", "onnxruntime-gpu"), cpu, nvidia=True).status == "fail"
    assert "build for processors" in onnx_devices(("onnxruntime",), cpu, nvidia=True).detail
    both = ("CUDAExecutionProvider", *cpu)
    assert "CUDA can be used" in onnx_devices(("onnxruntime-gpu",), both, nvidia=True).detail
