"""Checkpoints of a run: one safetensors file with weights, optimizer and where it stood."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edge.atomic import atomic_path
from edge.errors import ModelDamagedError


@dataclass(slots=True)
class RunState:
    """How far a run is. curve: one row of figures every so many steps. phase: what it did last.

    before: steps of the run that it started from; wall_s has the time of both.
    """

    step: int = 0
    phase: str = ""
    wall_s: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)
    hardware: str = ""
    before: int = 0


def save_run(
    path: Path, net: nn.Module, optimizer: torch.optim.Optimizer | None, state: RunState
) -> None:
    """Write everything that a later process needs to go on, whole or not at all."""
    from safetensors.torch import save_file

    tensors = {f"net/{name}": value for name, value in net.state_dict().items()}
    if optimizer is not None:
        for index, slots in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{key}": value for key, value in slots.items()}
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with atomic_path(path) as part:
        save_file(whole, part, {"run": json.dumps(asdict(state))})


def load_run(
    path: Path, net: nn.Module, optimizer: torch.optim.Optimizer | None = None
) -> RunState:
    """Put a saved run into net and optimizer, which must have its shapes.

    Raises ModelDamagedError for a file that is no checkpoint or belongs to another config.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stream:
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
            run = RunState(**json.loads((stream.metadata() or {})["run"]))
        net.load_state_dict(_under("net/", tensors))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:120]
        raise ModelDamagedError(
            f"{path}: cannot go on from this checkpoint ({reason}); move it away to start anew"
        ) from error
    if optimizer is not None:
        _fill(optimizer, _under("optimizer/", tensors))
    return run


def run_state(path: Path) -> RunState:
    """How far a saved run is, without its weights. Raises ModelDamagedError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stream:
            return RunState(**json.loads((stream.metadata() or {})["run"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ModelDamagedError(f"{path}: holds no record of a run; choose a checkpoint") from error


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _fill(optimizer: torch.optim.Optimizer, slots: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Any]] = {}
    for name, value in slots.items():
        index, _, key = name.partition("/")
        state.setdefault(int(index), {})[key] = value
    if state:
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})


def hardware_text(device: str) -> str:
    """What a run was made on, for its record."""
    import platform

    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name())
    cpu = platform.processor() or platform.machine()
    path = Path("/proc/cpuinfo")
    if path.is_file():
        names = [line for line in path.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return f"{cpu}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"
