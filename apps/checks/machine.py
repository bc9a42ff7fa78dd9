"""Python, processor, cores, memory and disk; the facts are arguments, so tests can choose them."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from apps.checks.check import Check
from edge.paths import data_dir
from runtime.cores import available_cores

OLDEST_PYTHON = (3, 11)
# Without these llama.cpp and onnxruntime run on code paths several times slower.
X86_WANTED = ("avx2", "fma", "f16c")
X86_WORTH_SAYING = ("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni")
ARM_WANTED = ("asimddp",)
FRAME_S = 0.08
# Of the order of 100 MB of weights are read for each token of the starter language model, and it
# should write a dozen tokens a second beside everything else.
LOW_BANDWIDTH_GB_S = 4.0
LOW_MEMORY_BYTES = 1_000_000_000
LOW_DISK_BYTES = 1_000_000_000
_ARRAY_BYTES = 192 << 20  # far more than a cache holds
_PASSES = 5


def python_version(version: Sequence[int]) -> Check:
    """Whether this Python is new enough. version: (major, minor, ...)."""
    text = ".".join(map(str, version[:3]))
    if tuple(version[:2]) >= OLDEST_PYTHON:
        return Check("python", "ok", f"{text} at {sys.executable}")
    return Check("python", "fail", text, "install Python 3.11 or later and make a new .venv")


def processor(machine: str, flags: frozenset[str]) -> Check:
    """Whether the processor has what fast kernels need. flags: as /proc/cpuinfo names them."""
    wanted = {"x86_64": X86_WANTED, "AMD64": X86_WANTED, "aarch64": ARM_WANTED}.get(machine, ())
    if not flags:
        return Check("processor", "ok", f"{machine}, {platform.system()}")
    said = [flag for flag in (*X86_WORTH_SAYING, *ARM_WANTED) if flag in flags]
    unused = ", amx (left unused)" if "amx_tile" in flags else ""
    detail = f"{machine}, {platform.system()}: {' '.join(said) or 'no vector extensions'}{unused}"
    if missing := [flag for flag in wanted if flag not in flags]:
        remedy = "speech will be slow here; choose the smallest models"
        return Check("processor", "warn", f"{detail}; lacks {' '.join(missing)}", remedy)
    return Check("processor", "ok", detail)


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Instruction sets of the first processor; empty where the system does not tell."""
    if sys.platform == "darwin":
        return _mac_flags()
    if not cpuinfo.exists():
        return frozenset()
    for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def _mac_flags() -> frozenset[str]:
    """Intel Macs name their extensions in two lists; Apple's own chips have all that we need."""
    lists = ("machdep.cpu.features", "machdep.cpu.leaf7_features")
    done = subprocess.run(["sysctl", "-n", *lists], capture_output=True, text=True, check=False)
    return frozenset(done.stdout.lower().split())


def cores(n_usable: int, n_total: int) -> Check:
    """How many cores this process may use, affinity and container limits counted."""
    detail = f"{n_usable} of {n_total} usable"
    if n_usable == 1:
        remedy = "replies will come late: give this process two cores or more"
        return Check("cores", "warn", detail, remedy)
    return Check("cores", "ok", detail)


def bandwidth(gb_per_s: float, n_threads: int) -> Check:
    """What the measured bandwidth means for models. gb_per_s: all usable cores together."""
    per_frame_gb = gb_per_s * FRAME_S
    detail = (
        f"{gb_per_s:.1f} GB/s read on {n_threads} cores, "
        f"{per_frame_gb:.2f} GB of weights in a frame of 80 ms"
    )
    if gb_per_s < LOW_BANDWIDTH_GB_S:
        return Check("bandwidth", "warn", detail, "choose the smallest language model")
    return Check("bandwidth", "ok", detail)


def measured_bandwidth_gb_s(n_threads: int) -> float:
    """Read a large array with n_threads threads, about 0.3 s; gives the best pass in GB/s."""
    import numpy as np

    size = _ARRAY_BYTES // 4 // n_threads
    parts = [np.ones(size, np.float32) for _ in range(n_threads)]
    best_s = float("inf")
    with ThreadPoolExecutor(n_threads) as pool:
        for _ in range(_PASSES):
            began_s = time.perf_counter()
            list(pool.map(np.max, parts))  # reads everything, writes nothing, frees the GIL
            best_s = min(best_s, time.perf_counter() - began_s)
    return size * 4 * n_threads / best_s / 1e9


def memory(available_bytes: int | None) -> Check:
    """Whether the memory that is free now holds a conversation. None: the system does not tell."""
    if available_bytes is None:
        return Check("memory", "ok", f"not measured on {platform.system()}")
    detail = f"{available_bytes / 1e9:.1f} GB available"
    if available_bytes < LOW_MEMORY_BYTES:
        return Check("memory", "warn", detail, "close other programs; talking takes up to 0.7 GB")
    return Check("memory", "ok", detail)


def available_memory_bytes(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """MemAvailable of Linux; None elsewhere."""
    if not meminfo.exists():
        return None
    for line in meminfo.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def disk(free_bytes: int, folder: Path) -> Check:
    """Whether there is room for models. folder: where they go."""
    detail = f"{free_bytes / 1e9:.1f} GB free for {folder}"
    if free_bytes < LOW_DISK_BYTES:
        remedy = "make room, or name another folder with EDGE_DATA_DIR"
        return Check("disk", "warn", detail, remedy)
    return Check("disk", "ok", detail)


def check_python() -> Check:
    """This Python."""
    return python_version(sys.version_info[:3])


def check_processor() -> Check:
    """This processor."""
    return processor(platform.machine(), cpu_flags())


def check_cores() -> Check:
    """The cores of this process."""
    return cores(available_cores(), os.cpu_count() or 1)


def check_bandwidth() -> Check:
    """The bandwidth of this machine, measured now."""
    n_threads = available_cores()
    return bandwidth(measured_bandwidth_gb_s(n_threads), n_threads)


def check_memory() -> Check:
    """The memory that is free now."""
    return memory(available_memory_bytes())


def check_disk() -> Check:
    """The disk that models are kept on; the folder itself need not exist yet."""
    folder = data_dir()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return disk(shutil.disk_usage(there).free, folder)
