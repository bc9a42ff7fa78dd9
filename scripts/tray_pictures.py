"""Pictures of the tray app in every state, for README: Xvfb, a real tray host, the real client.

    xvfb-run -s '-screen 0 900x560x24' python -m scripts.tray_pictures docs/pictures

(`make pictures`.) The daemon behind it is a stand-in that answers the control socket with one state
after the other; privacy, doctor and first steps show this machine. Needs `trayer` (or another
XEmbed tray host) and ImageMagick.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apps.daemon.protocol import Request
from apps.daemon.server import ControlServer
from apps.daemon.start import bind

STATES = ("idle", "listening", "thinking", "speaking", "muted", "error", "loading")


def status(state: str) -> dict[str, Any]:
    """What a daemon would answer."""
    return {
        "state": state, "muted": state == "muted", "talk": False, "engine": "cascade",
        "error": "there is no microphone; plug one in" if state == "error" else "",
        "profile": "", "ready_s": 2.4, "history": True, "clients": 1,
        "levels": {"microphone_db": -28.0, "speaker_db": -99.0},
        "panel": {
            "answers": 12, "interrupted": 3,
            "answer_ms": {"p50": 496.0, "p95": 712.0, "p99": 730.0, "max": 731.0},
            "last_answer_ms": {"end_of_turn": 210.0, "asr": 0.0, "llm_first": 190.0,
                               "tts_first": 60.0, "output": 36.0, "total": 496.0},
            "frames": {"count": 18210, "missed": 0,
                       "step_ms": {"p50": 1.6, "p95": 4.0, "p99": 6.1, "max": 9.0}},
            "queues": {"in": 0, "out": 1, "dropped_in": 0, "dropped_out": 0, "underruns": 0,
                       "reopened": 0},
            "echo": {"erle_db": 31.0, "delay_ms": 120.0, "converged": True}, "rss_mb": 551.0,
        },
        "privacy": {"level": "sealed", "reachable": [], "notes": [], "permissions": [],
                    "mechanisms": ["seccomp", "network namespace", "hidden name services"]},
    }  # fmt: skip


def main(folder: Path) -> None:
    """Take every picture."""
    folder.mkdir(parents=True, exist_ok=True)
    now = {"state": "idle"}
    with tempfile.TemporaryDirectory(prefix="t") as run:
        path = Path(run, "s")
        os.environ["EDGE_CONTROL_SOCKET"] = str(path)

        def handle(_request: Request) -> dict[str, Any]:
            return status(now["state"])

        server = ControlServer(bind(path), handle)
        server.start()
        for theme, tint in (("light", "0xf1f3f4"), ("dark", "0x202124")):
            host = subprocess.Popen(
                ["trayer", "--edge", "top", "--align", "right", "--height", "32", "--width", "12",
                 "--transparent", "true", "--alpha", "0", "--tint", tint]
            )  # fmt: skip
            with edge(server, "--theme", theme):
                strip(server, now, folder / f"tray-{theme}.png", Path(run))
            host.terminate()
            host.wait()
        with edge(server, "--no-tray", "--theme", "light"):
            window(server, now, folder / "captions.png")
        tell(server, now, "idle")
        subprocess.run([sys.executable, "-m", "scripts.tray_windows", run], check=True)
        for name in ("menu", "history", "privacy", "doctor", "models", "microphone"):
            made = ["+dither", "-colors", "64", str(folder / f"{name}.png")]
            subprocess.run(["convert", f"{run}/{name}.png", *made], check=True)
        server.close()


@contextmanager
def edge(server: ControlServer, *words: str) -> Iterator[None]:
    """The real client, while the block runs; begins once it watches and has had time to be seen."""
    running = subprocess.Popen([sys.executable, "-m", "apps.cli", "tray", *words])
    while not server.watched and running.poll() is None:
        time.sleep(0.1)
    time.sleep(5)
    try:
        yield
    finally:
        running.terminate()
        running.wait()


def tell(server: ControlServer, now: dict[str, str], state: str) -> None:
    """Enter a state."""
    now["state"] = state
    found = status(state)
    server.tell("state", {name: found[name] for name in ("state", "muted", "talk", "error")})
    time.sleep(1.5)


def strip(server: ControlServer, now: dict[str, str], path: Path, scratch: Path) -> None:
    """The tray's own pixels in every state, side by side."""
    pieces = []
    for state in STATES:
        tell(server, now, state)
        piece = scratch / f"{state}.png"
        whole = scratch / "whole.png"
        subprocess.run(["import", "-window", "root", str(whole)], check=True)
        cut = ["-crop", "36x32+864+0", "+repage", "-scale", "200%"]
        subprocess.run(["convert", str(whole), *cut, str(piece)], check=True)
        pieces.append(str(piece))
    subprocess.run(
        ["convert", *pieces, "+append", "+dither", "-colors", "64", str(path)], check=True
    )


def window(server: ControlServer, now: dict[str, str], path: Path) -> None:
    """The captions in the middle of a conversation."""
    tell(server, now, "speaking")
    server.tell("user", {"text": "What is the capital of France?", "latency_ms": {}})
    server.tell("reply", {"text": "The capital of France is Paris.", "interrupted": False})
    server.tell("user", {"text": "How many legs has a spider?", "latency_ms": {}})
    server.tell("reply", {"text": "A spider has eight", "interrupted": True})
    server.tell("levels", {"microphone_db": -24.0, "speaker_db": -30.0})
    time.sleep(1.5)
    subprocess.run(
        ["import", "-window", "root", "-trim", "+dither", "-colors", "64", str(path)], check=True
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
