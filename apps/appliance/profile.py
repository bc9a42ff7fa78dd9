"""Which profile a machine gets: by what was measured on it, never by its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_MB = 1 << 20
# The starter cascade needs about 600 MiB; a language model of half a billion weights another 500.
_SMALL_BYTES = 1_500 * _MB
_CASCADE_MB = 1_400
_SMALL_CASCADE_MB = 900
# Below this the language model writes slower than the voice speaks (see `edge doctor`).
_SLOW_GB_S = 6.0

# Device nodes of accelerators: Jetson's, then those of a desktop GPU.
_GPU_NODES = (
    *("/dev/nvhost-ctrl", "/dev/nvhost-gpu", "/dev/nvhost-ctrl-gpu", "/dev/nvmap", "/dev/nvgpu"),
    *("/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm"),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """A machine in numbers. duplex_fits: what `edge plan` said of the model that was named."""

    bandwidth_gb_s: float
    memory_bytes: int
    cores: int
    duplex_fits: bool = False
    duplex_reason: str = ""
    gpu_nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    """How an appliance is set up. reason: one line for its config.toml."""

    name: str
    engine: str
    budget_tokens: int
    cores: int
    memory_max_mb: int
    reason: str
    devices: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


def choose(machine: Measured) -> Profile:
    """The richest profile that the numbers carry."""
    numbers = f"{machine.bandwidth_gb_s:.1f} GB/s, {machine.memory_bytes / 1e9:.1f} GB"
    groups = ("video", "render") if machine.gpu_nodes else ()
    if machine.duplex_fits:
        most_mb = int(machine.memory_bytes * 0.8 / _MB)
        return Profile(
            "duplex", "duplex", 512, 0, most_mb, f"duplex: {machine.duplex_reason} ({numbers})",
            machine.gpu_nodes, groups,
        )  # fmt: skip
    if machine.memory_bytes < _SMALL_BYTES or machine.bandwidth_gb_s < _SLOW_GB_S:
        return Profile(
            "cascade-small", "cascade", 256, machine.cores, _SMALL_CASCADE_MB,
            f"cascade-small: {numbers} is little; a short memory keeps answers quick",
        )  # fmt: skip
    name = "cascade-gpu" if machine.gpu_nodes else "cascade"
    return Profile(
        name, "cascade", 512, 0, _CASCADE_MB, f"{name}: {numbers}", machine.gpu_nodes, groups
    )


def measure(model: str = "") -> Measured:
    """Measure this machine; model: a duplex model's folder to plan for, "" for none."""
    from apps.bench.size import model_size
    from apps.checks.machine import available_memory_bytes, measured_bandwidth_gb_s
    from runtime import plan as planning
    from runtime.cores import available_cores

    cores = available_cores()
    bandwidth = round(measured_bandwidth_gb_s(cores), 1)
    memory = available_memory_bytes() or 0
    nodes = tuple(path for path in _GPU_NODES if Path(path).exists())
    if not model:
        return Measured(bandwidth, memory, cores, gpu_nodes=nodes)
    made = planning.plan(model_size(model, codec_ms=0.0), planning.Machine(bandwidth, memory))
    return Measured(bandwidth, memory, cores, made.choice is not None, made.reason, nodes)
