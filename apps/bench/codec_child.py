"""One run of the codec bench in a process of its own: thread pools are sized once per process."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from apps.bench.codec import Engine, interleaved, moshi_engine, our_engine, paced, rusty_engine
from edge.errors import EdgeError


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Measure what a job asks for: artifacts, checkpoint, codebooks, peers, threads, frames."""
    threads, n_codebooks = int(job["threads"]), int(job["codebooks"])
    checkpoint = Path(job["checkpoint"]) if job["checkpoint"] else None
    engines: dict[str, Engine] = {}
    for artifact in job["artifacts"]:
        name, engine = our_engine(Path(artifact), threads)
        engines[f"edge {name}"] = engine
    ours = list(engines)
    if checkpoint is not None and "rustymimi" in job["against"]:
        engines["rustymimi"] = rusty_engine(checkpoint, n_codebooks)
    if checkpoint is not None and "moshi" in job["against"]:
        engines["moshi"] = moshi_engine(checkpoint, n_codebooks, threads)

    def told(done: int, total: int) -> None:
        print(f"{done} {total}", file=sys.stderr, flush=True)

    result: dict[str, Any] = {"threads": threads, "interleaved": interleaved(
        engines, int(job["frames"]), told
    )}  # fmt: skip
    if job["paced"]:
        result["paced"] = {name: paced(engines[name], int(job["frames"])) for name in ours}
    return result


def main() -> int:
    """Read a job from standard input, write its result to standard output."""
    job = json.load(sys.stdin)
    os.environ["RAYON_NUM_THREADS"] = str(job["threads"])
    try:
        json.dump(run(job), sys.stdout)
    except EdgeError as error:
        json.dump({"error": str(error)}, sys.stdout)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
