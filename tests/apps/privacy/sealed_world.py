"""Children that seal themselves: a seal cannot be taken off, so no test does it to pytest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge.paths import data_dir

ROOT = Path(__file__).resolve().parents[3]


def clean_env(home: Path) -> dict[str, str]:
    """As on a user's machine: no CI variable, which would silence telemetry for us."""
    models = data_dir()
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOME": str(home),
        "EDGE_DATA_DIR": str(models),
        "EDGE_CONFIG_DIR": str(home / "config"),
        "EDGE_STATE_DIR": str(home.parent / "state"),
        "OMP_NUM_THREADS": "1",
        "LANG": "C.UTF-8",
    }


def run_python(
    code: str, home: Path, *, before: list[str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter. before: a command in front, such as unshare."""
    return subprocess.run(
        [*(before or []), sys.executable, "-c", code],
        capture_output=True, text=True, check=False, env=clean_env(home), timeout=120,
    )  # fmt: skip


def probe(level: str, home: Path, *before: str) -> dict[str, Any]:
    """What `apps.privacy.probe` reports."""
    done = subprocess.run(
        [*before, sys.executable, "-m", "apps.privacy.probe", level],
        capture_output=True, text=True, check=False, env=clean_env(home), timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def needs_namespaces() -> list[str]:
    """The command that runs another in an empty network; skips where the system refuses it."""
    for command in (["unshare", "-n"], ["unshare", "-rn"]):
        try:
            done = subprocess.run([*command, "true"], capture_output=True, check=False)
        except FileNotFoundError:
            break
        if done.returncode == 0:
            return command
    pytest.skip("this system allows no network namespace")
