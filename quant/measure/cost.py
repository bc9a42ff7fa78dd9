"""What a codec costs: time a frame, memory of its own, in a process that does nothing else.

`python -m quant.measure.cost FOLDER [FOLDER]` runs codecs in turn, so that other load falls on
both, and prints one JSON object.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import EdgeError

_N_FRAMES = 60
_N_WARM = 5


def cost_of(folders: list[Path]) -> dict[str, Any]:
    """Folder -> step_ms_p50, step_ms_p99, cpu_ms_p50, own_memory_bytes. Raises EdgeError."""
    alone = {str(folder): _child([folder]) for folder in folders}
    together = _child(folders) if len(folders) > 1 else next(iter(alone.values()))
    return {
        name: {**together[name], "own_memory_bytes": alone[name][name]["own_memory_bytes"]}
        for name in alone
    }


def main() -> None:
    """The child."""
    from runtime.models.mimi import MimiCodec
    from runtime.models.mimi_probe import probe_sound

    before = _own_memory_bytes()
    codecs = {name: MimiCodec(name) for name in sys.argv[1:]}
    states = {name: codec.start() for name, codec in codecs.items()}
    wall: dict[str, list[float]] = {name: [] for name in codecs}
    cpu: dict[str, list[float]] = {name: [] for name in codecs}
    for i, pcm in enumerate(probe_sound(_N_WARM + _N_FRAMES, seed=1)):
        for name, codec in codecs.items():
            began, worked = time.perf_counter(), time.process_time()
            state, codes = codec.encode(states[name], pcm)
            states[name], _ = codec.decode(state, codes)
            if i >= _N_WARM:
                wall[name].append((time.perf_counter() - began) * 1e3)
                cpu[name].append((time.process_time() - worked) * 1e3)
    memory = _own_memory_bytes() - before
    print(  # noqa: T201 - this is what the parent reads
        json.dumps(
            {
                name: {
                    "step_ms_p50": float(np.percentile(wall[name], 50)),
                    "step_ms_p99": float(np.percentile(wall[name], 99)),
                    "cpu_ms_p50": float(np.percentile(cpu[name], 50)),
                    "own_memory_bytes": memory,
                }
                for name in codecs
            }
        )
    )


def _child(folders: list[Path]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "quant.measure.cost", *map(str, folders)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        said = done.stderr.strip().splitlines()
        raise EdgeError(f"timing the codec failed: {said[-1] if said else 'killed'}") from error
    return found


def _own_memory_bytes() -> int:
    """Memory that belongs to this process alone; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return 0
    for line in status.read_text("utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
