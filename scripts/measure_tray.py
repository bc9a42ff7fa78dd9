"""What the tray app costs to start and to keep, with a real tray host and its real client.

    xvfb-run -a python -m scripts.measure_tray [--idle SECONDS] [--starts N] [--out FILE]

The daemon behind it is a stand-in that answers `status` and is otherwise quiet, as one is that
nobody speaks to. Exits 1 above 1.5 s (the median start) or 1 % of a core. Needs `trayer` (or
another XEmbed tray host).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from apps.bench.machine import machine
from apps.daemon.server import ControlServer
from apps.daemon.start import bind
from edge.atomic import write_text
from scripts.tray_pictures import status

_MOST_START_S, _MOST_IDLE_PERCENT = 1.5, 1.0
_SHORT_S = 1.0
_WAIT_S = 60.0


def one_start(server: ControlServer, stay_s: float) -> dict[str, float]:
    """Start the client and let it stay so long.

    start_s: from the interpreter's start to the first turn of the app's loop, its icon shown, by
    its own clock. connected_s: from before the process was made until the daemon heard of it, which
    is what a user waits for. idle_cpu_percent: of one core, from start_s on.
    """
    command = [sys.executable, "-m", "apps.cli", "tray", "--measure", str(stay_s)]
    began_s = time.monotonic()
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while not server.watched and time.monotonic() - began_s < _WAIT_S and running.poll() is None:
        time.sleep(0.005)
    connected_s = time.monotonic() - began_s
    said, _ = running.communicate(timeout=stay_s + _WAIT_S)
    if running.returncode:
        raise click.ClickException(f"the tray app ended with {running.returncode}")
    while server.watched:  # the next start is to be seen by itself
        time.sleep(0.005)
    found: dict[str, float] = json.loads(said)
    return {**found, "connected_s": round(connected_s, 3)}


def measure(n_starts: int, idle_s: float) -> dict[str, Any]:
    """Start it so often, the last time to stay; what that cost."""
    with tempfile.TemporaryDirectory(prefix="t") as run:
        path = Path(run, "s")
        os.environ["EDGE_CONTROL_SOCKET"] = str(path)
        server = ControlServer(bind(path), lambda _request: status("idle"))
        server.start()
        host = subprocess.Popen(["trayer", "--edge", "top", "--height", "32", "--width", "12"])
        try:
            stays_s = [_SHORT_S] * (n_starts - 1) + [idle_s]
            starts = [one_start(server, stay_s) for stay_s in stays_s]
        finally:
            host.terminate()
            host.wait()
            server.close()
    return {
        "bench": "tray",
        "machine": machine(),
        "in_a_tray": all(start["tray"] for start in starts),
        "start_s": [start["start_s"] for start in starts],
        "connected_s": [start["connected_s"] for start in starts],
        "median_start_s": statistics.median(start["start_s"] for start in starts),
        "median_connected_s": statistics.median(start["connected_s"] for start in starts),
        "idle_s": idle_s,
        "idle_cpu_percent": starts[-1]["idle_cpu_percent"],
    }


@click.command()
@click.option("--starts", "n_starts", type=click.IntRange(1), default=5, show_default=True)
@click.option("--idle", "idle_s", type=float, default=30.0, show_default=True, metavar="SECONDS")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Also write the JSON.")
def main(n_starts: int, idle_s: float, out: Path | None) -> None:
    """Measure, and print one JSON object."""
    found = measure(n_starts, idle_s)
    slowest = max(found["median_start_s"], found["median_connected_s"])
    found["ok"] = (
        found["in_a_tray"]
        and slowest <= _MOST_START_S
        and found["idle_cpu_percent"] <= _MOST_IDLE_PERCENT
    )
    if out:
        write_text(out, json.dumps(found, indent=1))
    click.echo(json.dumps(found))
    sys.exit(0 if found["ok"] else 1)


if __name__ == "__main__":
    main()
