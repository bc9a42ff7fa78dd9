"""The ONNX Runtime backend: devices, bound buffers, what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import ArtifactError, DeviceError, ShapeError, UsageError
from runtime.backends.ort import choose_device, open_session

onnx = pytest.importorskip("onnx", reason="the graphs of these tests are made with it")

CPU, CUDA, COREML = "CPUExecutionProvider", "CUDAExecutionProvider", "CoreMLExecutionProvider"


def _graph() -> bytes:
    """A graph of y = x + state and next = state + 1; two values each."""
    helper, real = onnx.helper, onnx.TensorProto.FLOAT

    def info(name: str) -> Any:
        return helper.make_tensor_value_info(name, real, [2])

    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "state"], ["y"]),
            helper.make_node("Add", ["state", "one"], ["next"]),
        ],
        "count",
        [info("x"), info("state")],
        [info("y"), info("next")],
        [onnx.numpy_helper.from_array(np.ones(2, np.float32), "one")],
    )
    opset = [helper.make_opsetid("", 20)]
    raw: bytes = helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
    return raw


def _zeros() -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.zeros(2, np.float32)


@pytest.mark.parametrize(
    ("available", "device"),
    [
        ([CPU], "cpu"),
        ([CUDA, CPU], "cuda"),
        ([COREML, CPU], "metal"),
        ([COREML, CUDA, CPU], "cuda"),
    ],
)
def test_auto_takes_the_best_device_there_is(available: list[str], device: str) -> None:
    choice = choose_device("auto", available)
    assert choice.device == device
    assert choice.providers[-1] == CPU
    assert choice.reason


def test_the_processor_stands_behind_every_accelerator() -> None:
    assert choose_device("cuda", [CUDA, CPU]).providers == (CUDA, CPU)
    assert choose_device("cpu", [CUDA, CPU]).providers == (CPU,)


def test_a_device_that_is_missing_is_an_error_that_says_so() -> None:
    with pytest.raises(DeviceError, match=r"metal.*CoreML"):
        choose_device("metal", [CPU])
    with pytest.raises(UsageError, match="tpu"):
        choose_device("tpu", [CPU])


def test_bound_buffers_compute_what_a_plain_run_computes() -> None:
    session = open_session(_graph(), name="count")
    x, state, y, after = (np.array([1, 2], np.float32), *(_zeros() for _ in range(3)))
    there = session.bind({"x": x, "state": state}, {"y": y, "next": after})
    back = session.bind({"x": x, "state": after}, {"y": y, "next": state})
    for step in range(6):
        x[:] = step
        want = session.run({"x": x, "state": state if step % 2 == 0 else after})
        (there if step % 2 == 0 else back).run()
        np.testing.assert_array_equal(y, want["y"])
        np.testing.assert_array_equal(y, [2 * step, 2 * step])


def test_wrong_buffers_are_refused() -> None:
    session = open_session(_graph(), name="count")
    x, y, after = _zeros(), _zeros(), _zeros()
    outputs = {"y": y, "next": after}
    with pytest.raises(ShapeError, match="state"):
        session.bind({"x": x}, outputs)
    with pytest.raises(ShapeError, match="x"):
        session.bind({"x": np.zeros(3, np.float32), "state": _zeros()}, outputs)
    with pytest.raises(ShapeError, match="float64"):
        session.bind({"x": np.zeros(2), "state": _zeros()}, outputs)
    with pytest.raises(ShapeError, match="strided"):
        session.bind({"x": np.zeros(4, np.float32)[::2], "state": _zeros()}, outputs)
    with pytest.raises(ShapeError, match="its own"):
        session.bind({"x": x, "state": after}, outputs)
    with pytest.raises(ShapeError, match="inputs"):
        session.run({"x": x})


def test_what_is_no_graph_is_an_artifact_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot load"):
        open_session(b"not a graph", name="broken")
    (tmp_path / "cut.onnx").write_bytes(_graph()[:-40])
    with pytest.raises(ArtifactError, match=r"cut\.onnx"):
        open_session(tmp_path / "cut.onnx")
    with pytest.raises(ArtifactError, match="no such graph"):
        open_session(tmp_path / "absent.onnx")
    with pytest.raises(UsageError, match="threads"):
        open_session(_graph(), threads=0)


def test_telemetry_is_off_before_the_library_is_imported() -> None:
    code = (
        "import os, sys\n"
        "import runtime.backends.ort as ort\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "ort.load_onnxruntime()\n"
        "print(os.environ['ORT_DISABLE_TELEMETRY'])\n"
    )
    bare = {k: v for k, v in os.environ.items() if k not in ("CI", "ORT_DISABLE_TELEMETRY")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"
