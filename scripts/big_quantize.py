"""A 7B-shaped model to q4_K_M beside llama.cpp's own quantizer (`make big-quantize`).

Weights are random, written as float16 once and kept; nothing is claimed of sound. Both sides run
as processes of their own, in turn, on equal threads. Prints and writes: seconds of each side, by
the clock and by the processor, and their ratio; the most anonymous memory of ours; whether every
tensor has equal bytes; and what a SIGKILL at a random moment leaves and the next run makes of it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

RECIPE = 'name = "q4_K_M"\n[[llm]]\nmatch = ".*"\nto = "q4_K_M"\nfallback = "q8_0"\n'
THEIRS = """
import ctypes, sys, llama_cpp
params = llama_cpp.llama_model_quantize_default_params()
params.ftype, params.nthread = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M, int(sys.argv[3])
a, b = (one.encode() for one in sys.argv[1:3])
sys.exit(llama_cpp.llama_model_quantize(a, b, ctypes.byref(params)))
"""


def write_model(path: Path, n_layers: int) -> None:
    """The main transformer of a published size, float16."""
    from export.gguf import float_tensor, write_gguf
    from export.moshi_config import parse_config
    from export.random_moshi import HIDDEN_OF, MODELS, RandomWeights
    from export.temporal_gguf import temporal_metadata, temporal_tensors

    hidden, depth_hidden = HIDDEN_OF["moshi-7b"]
    config = parse_config({**MODELS["moshi-7b"], "num_layers": n_layers})
    weights: Any = RandomWeights(config, hidden, depth_hidden)
    weights.dtype = lambda _: "F32"
    noise = np.random.default_rng(0).standard_normal(1 << 22, np.float32)

    def values(shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) == 1:
            return np.ones(shape, np.float32)
        scaled = (noise * np.float32(shape[-1] ** -0.5)).astype(np.float16)
        return np.resize(scaled, shape)

    tensors = [
        float_tensor(t.name, t.shape, "F32" if len(t.shape) == 1 else "F16",
                     lambda shape=t.shape: values(shape))
        for t in temporal_tensors(weights)
    ]  # fmt: skip
    write_gguf(path, temporal_metadata(config, hidden, "F16"), tensors, source=f"noise {n_layers}")


def run(command: list[str], *, kill_after_s: float | None = None) -> dict[str, float]:
    """Wall and processor seconds of a process, its most anonymous memory, its exit code."""
    began_s, most_kb = time.monotonic(), 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while True:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        most_kb = max(most_kb, anonymous_kb(process.pid))
        if kill_after_s is not None and time.monotonic() - began_s > kill_after_s:
            process.send_signal(signal.SIGKILL)
            kill_after_s = None
        time.sleep(0.05)
    process.returncode = os.waitstatus_to_exitcode(status)
    return {
        "wall_s": time.monotonic() - began_s,
        "cpu_s": used.ru_utime + used.ru_stime,
        "rss_anon_mb": most_kb / 1024,
        "code": float(process.returncode),
    }


def anonymous_kb(pid: int) -> int:
    """RssAnon of a process; mapped files are not counted."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def unequal(ours: Path, theirs: Path) -> tuple[int, list[str]]:
    """How many tensors there are, and which differ in type or bytes."""
    from export.gguf_read import read_gguf
    from runtime.backends.ggml import NAMES, Ggml

    ggml, found = Ggml(), []
    a, b = read_gguf(ours), read_gguf(theirs)
    twins = {tensor.name: tensor for tensor in b.tensors}
    for tensor in a.tensors:
        twin = twins.get(tensor.name)
        kind, width = NAMES[tensor.ggml_type], tensor.shape[-1]
        n_bytes = ggml.row_bytes(kind, width) * (int(np.prod(tensor.shape)) // width)
        same = twin is not None and twin.ggml_type == tensor.ggml_type
        if not same or not np.array_equal(a.read(tensor, n_bytes), b.read(twin, n_bytes)):
            found.append(tensor.name)
    return len(a.tensors), found


def main() -> int:
    """Measure, print, write; exit code 1 where a demand is not met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=8, help="of 32")
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=None, help="of the moment of the kill")
    parser.add_argument("--folder", type=Path, default=Path("big"))
    parser.add_argument("--out", type=Path, default=Path("figures/big_quantize.json"))
    asked = parser.parse_args()
    folder = asked.folder
    folder.mkdir(parents=True, exist_ok=True)
    model, recipe = folder / f"float-{asked.layers}.gguf", folder / "q4_K_M.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    if not model.is_file():
        print(f"writing {model} ...", flush=True)
        write_model(model, asked.layers)
    ours_dir, theirs = folder / "ours", folder / "theirs.gguf"
    ours = [sys.executable, "-m", "apps.cli", "quantize", "run", str(model), "--role", "llm",
            "--recipe", str(recipe), "--out", str(ours_dir),
            "--threads", str(asked.threads)]  # fmt: skip
    peer = [sys.executable, "-c", THEIRS, str(model), str(theirs), str(asked.threads)]
    rows: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
    for pair in range(asked.pairs):
        for name in ("ours", "theirs") if pair % 2 == 0 else ("theirs", "ours"):
            shutil.rmtree(ours_dir, ignore_errors=True) if name == "ours" else None
            rows[name].append(run(ours if name == "ours" else peer))
            print(name, {k: round(v, 1) for k, v in rows[name][-1].items()}, flush=True)
    n_tensors, different = unequal(ours_dir / model.name, theirs)
    killed = kill_and_go_on(ours, ours_dir, model.name, theirs, rows["ours"], asked.seed)
    result = judged(rows, n_tensors, different, killed, asked, model)
    asked.out.write_text(json.dumps(result, indent=1), encoding="utf-8")
    print(json.dumps({k: v for k, v in result.items() if k != "surroundings"}, indent=1))
    shutil.rmtree(ours_dir)
    theirs.unlink()
    return 0 if all(result["met"].values()) else 1


def kill_and_go_on(
    command: list[str], out: Path, name: str, theirs: Path, before: list[dict[str, float]],
    seed: int | None,
) -> dict[str, Any]:  # fmt: skip
    """SIGKILL somewhere in the run, look at what is there, run again, compare."""
    shutil.rmtree(out)
    usual_s = statistics.median(row["wall_s"] for row in before)
    seed = seed if seed is not None else int.from_bytes(os.urandom(4), "big")
    at_s = random.Random(seed).uniform(0.1, 0.9) * usual_s
    killed = run(command, kill_after_s=at_s)
    absent = not out.exists()
    rest = run(command)
    _, different = unequal(out / name, theirs)
    return {
        "seed": seed,
        "killed_after_s": round(at_s, 1),
        "exit_code": killed["code"],
        "target_absent_after": absent,
        "rest_wall_s": round(rest["wall_s"], 1),
        "rest_cpu_s": round(rest["cpu_s"], 1),
        "equal_after": not different,
    }


def judged(
    rows: dict[str, list[dict[str, float]]], n_tensors: int, different: list[str],
    killed: dict[str, Any], asked: argparse.Namespace, model: Path,
) -> dict[str, Any]:  # fmt: skip
    """The figures and whether each demand is met."""
    from quant.measure.result import surroundings

    pairs = list(zip(rows["ours"], rows["theirs"], strict=True))
    ratios = {key: [a[key] / b[key] for a, b in pairs] for key in ("wall_s", "cpu_s")}
    rss_mb = max(row["rss_anon_mb"] for row in rows["ours"])
    ratio = statistics.median(ratios["cpu_s"])
    return {
        "model": f"moshi-7b's shape, {asked.layers} of 32 layers, random float16 weights",
        "size_bytes": model.stat().st_size,
        "threads": asked.threads,
        "pairs": [[{k: round(v, 2) for k, v in row.items()} for row in pair] for pair in pairs],
        "wall_ratio_median": round(statistics.median(ratios["wall_s"]), 3),
        "cpu_ratio_median": round(ratio, 3),
        "rss_anon_mb": round(rss_mb, 1),
        "tensors": n_tensors,
        "tensors_different": different,
        "kill": killed,
        "met": {
            "time_at_most_1.2": ratio <= 1.2,
            "rss_anon_under_3_gb": rss_mb < 3000,
            "equal_bytes": not different,
            "killed_and_whole": killed["target_absent_after"] and killed["equal_after"],
        },
        "surroundings": surroundings(),
    }


if __name__ == "__main__":
    sys.exit(main())
