"""ONNX Runtime: the only place that knows it. Sessions with quiet threads, buffers bound once."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge.errors import ArtifactError, DeviceError, MissingPackageError, ShapeError, UsageError

log = logging.getLogger(__name__)

Device = Literal["cpu", "cuda", "metal", "auto"]
Array = NDArray[Any]

_CPU = "CPUExecutionProvider"
_PROVIDER_OF = {"cpu": _CPU, "cuda": "CUDAExecutionProvider", "metal": "CoreMLExecutionProvider"}
# A step is a few hundred small kernels on fixed shapes: replaying a captured CUDA graph would need
# every buffer on the device, so it stays off; TF32 would cost codes.
_PROVIDER_OPTIONS: dict[str, dict[str, str]] = {
    "cpu": {},
    "cuda": {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
    "metal": {"ModelFormat": "MLProgram", "RequireStaticInputShapes": "1"},
}
_DTYPE_OF = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int16)": "int16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """Where graphs run: device is "cpu", "cuda" or "metal"; reason is one line for people."""

    device: str
    providers: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A graph's input or output: numpy dtype name and shape, None where a dimension is free."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


def load_onnxruntime() -> ModuleType:
    """Import onnxruntime with its telemetry off. Raises MissingPackageError.

    From 1.29 on it opens sockets and writes a device id unless this variable is set before the
    first import, so nobody else may import it.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as exc:
        raise MissingPackageError("onnxruntime", extra="talk", needed_for="an ONNX model") from exc
    return onnxruntime  # type: ignore[no-any-return]


def available_providers() -> tuple[str, ...]:
    """The execution providers this installation of onnxruntime has, fastest first."""
    return tuple(load_onnxruntime().get_available_providers())


def choose_device(device: str, available: Sequence[str]) -> DeviceChoice:
    """Pick the provider for a device name and say why.

    "auto" takes CUDA, then CoreML, then the processor. The processor stays behind every
    accelerator for operators that it lacks. Raises DeviceError where a device that was asked for
    by name is missing, UsageError for a name that is none.
    """
    if device == "auto":
        for name in ("cuda", "metal"):
            if _PROVIDER_OF[name] in available:
                return DeviceChoice(
                    name, (_PROVIDER_OF[name], _CPU), f"auto: {_PROVIDER_OF[name]} is available"
                )
        return DeviceChoice("cpu", (_CPU,), "auto: neither CUDA nor CoreML is available")
    if device not in _PROVIDER_OF:
        raise UsageError(f"unknown device {device!r}; use cpu, cuda, metal or auto")
    provider = _PROVIDER_OF[device]
    if provider not in available:
        raise DeviceError(
            f"device {device}: this onnxruntime has no {provider} (it has {', '.join(available)}); "
            "install the build for that device or use --device cpu"
        )
    providers = (provider,) if provider == _CPU else (provider, _CPU)
    return DeviceChoice(device, providers, f"{device}: asked for")


# A graph of very many small steps waits for its threads to wake before each of them. With this they
# stay awake while it runs, and sleep as soon as it ends.
AWAKE_WHILE_RUNNING = {
    "session.intra_op.allow_spinning": "1",
    "session.force_spinning_stop": "1",
}


class Session:
    """One loaded graph: weights, no state. Threads may run it at the same time."""

    def __init__(self, raw: Any, name: str, choice: DeviceChoice) -> None:
        self.name = name
        self.choice = choice
        self.inputs = {info.name: info for info in map(_tensor_info, raw.get_inputs())}
        self.outputs = {info.name: info for info in map(_tensor_info, raw.get_outputs())}
        self._raw = raw

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once, allocating the outputs. Raises ShapeError where the feeds do not fit."""
        names = list(self.outputs)
        for name, array in feeds.items():
            if name in self.inputs:
                check_tensor(self.inputs[name], array)
        if set(feeds) != set(self.inputs):
            raise ShapeError(f"{self.name} inputs", got=sorted(feeds), want=sorted(self.inputs))
        return dict(zip(names, self._raw.run(names, dict(feeds)), strict=True))

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> BoundStep:
        """Bind every input and output to a buffer of the caller's, once for many runs."""
        return BoundStep(self, inputs, outputs)

    def new_binding(self) -> Any:
        """An empty io_binding, for BoundStep only."""
        return self._raw.io_binding()

    def run_binding(self, binding: Any) -> None:
        """Run what a binding points at, for BoundStep only."""
        self._raw.run_with_iobinding(binding)


class BoundStep:
    """A graph whose inputs and outputs are fixed numpy buffers: `run` allocates nothing in Python.

    The buffers must be C-contiguous and of the graph's static shapes. An output must not be one
    of the inputs' buffers: kernels may still read an input after a part of an output is written.
    Two BoundSteps with swapped buffers make a state ping-pong without a copy.
    """

    def __init__(
        self, session: Session, inputs: Mapping[str, Array], outputs: Mapping[str, Array]
    ) -> None:
        for side, want, got in (
            ("inputs", session.inputs, inputs),
            ("outputs", session.outputs, outputs),
        ):
            if set(want) != set(got):
                raise ShapeError(f"{session.name} {side}", got=sorted(got), want=sorted(want))
            for name, array in got.items():
                check_tensor(want[name], array)
                if not array.flags.c_contiguous:
                    raise ShapeError(f"{session.name} {name}", got="a strided view", want="C order")
        read = {array.ctypes.data for array in inputs.values()}
        for name, array in outputs.items():
            if array.ctypes.data in read:
                raise ShapeError(f"{session.name} {name}", got="an input's buffer", want="its own")
        self._session = session
        self._buffers = (dict(inputs), dict(outputs))  # keeps the memory alive
        self._binding = session.new_binding()
        for name, array in inputs.items():
            self._binding.bind_input(
                name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data
            )
        for name, array in outputs.items():
            self._binding.bind_output(
                name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data
            )

    def run(self) -> None:
        """Compute the outputs from what the input buffers hold now."""
        self._session.run_binding(self._binding)


def open_session(
    model: Path | str | bytes,
    *,
    threads: int = 1,
    device: str = "cpu",
    name: str = "",
    config: Mapping[str, str] | None = None,
) -> Session:
    """Load a graph for step-wise use: sequential, no spinning threads, one pool of `threads`.

    model: a file, or the bytes of one. name: for messages; the file's name by default.
    config: further onnxruntime session entries, key to value.
    Raises ArtifactError where the graph cannot be loaded, DeviceError, MissingPackageError.
    """
    if threads < 1:
        raise UsageError(f"threads must be at least 1, got {threads}")
    ort = load_onnxruntime()
    choice = choose_device(device, ort.get_available_providers())
    label = name or (Path(model).name if not isinstance(model, bytes) else "graph")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    entries = {
        "session.intra_op.allow_spinning": "0",
        "session.inter_op.allow_spinning": "0",
        **(config or {}),
    }
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    source = model if isinstance(model, bytes) else str(model)
    if not isinstance(model, bytes) and not Path(model).is_file():
        raise ArtifactError(f"{label}: there is no such graph at {model}")
    try:
        raw = ort.InferenceSession(
            source,
            options,
            providers=[
                (provider, _PROVIDER_OPTIONS[choice.device] if provider != _CPU else {})
                for provider in choice.providers
            ],
        )
    except Exception as exc:  # onnxruntime raises a dozen unrelated types
        first_line = next(iter(str(exc).splitlines()), type(exc).__name__)
        raise ArtifactError(
            f"{label}: onnxruntime cannot load this graph ({first_line[:200]}); "
            "export it again or verify the artifact"
        ) from exc
    log.info("%s: %s, %d thread(s)", label, choice.reason, threads)
    used = raw.get_providers()
    if choice.providers[0] not in used:
        raise DeviceError(
            f"{label}: {choice.providers[0]} could not be started here; "
            "check its driver or use --device cpu"
        )
    return Session(raw, label, choice)


def check_tensor(info: TensorInfo, array: Array) -> None:
    """Refuse an array that is not of a tensor's dtype and shape. Raises ShapeError."""
    fits = len(info.shape) == array.ndim and all(
        want is None or want == got for want, got in zip(info.shape, array.shape, strict=True)
    )
    if not fits or array.dtype != np.dtype(info.dtype):
        raise ShapeError(
            info.name, got=f"{array.dtype} {array.shape}", want=f"{info.dtype} {info.shape}"
        )


def _tensor_info(raw: Any) -> TensorInfo:
    """One input or output of a loaded graph; free dimensions come as names or None."""
    shape = tuple(dim if isinstance(dim, int) else None for dim in raw.shape)
    return TensorInfo(raw.name, _DTYPE_OF.get(raw.type, raw.type), shape)
