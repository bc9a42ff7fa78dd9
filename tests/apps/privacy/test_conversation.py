"""The promise as a whole: a real conversation, sealed, and in a network with nothing in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge.store import ModelStore
from tests.apps.privacy.sealed_world import ROOT, clean_env, needs_namespaces

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform != "linux", reason="the seal of Linux"),
]
QUESTION = ROOT / "apps/assets/question.flac"


def converse(home: Path, level: str, *before: str) -> tuple[dict[str, Any], list[str]]:
    """The turns of a conversation in a clean environment, and what it left in HOME."""
    home.mkdir()
    done = subprocess.run(
        [
            *before, sys.executable, "-m", "apps.cli", "talk", "--input", str(QUESTION),
            "--clock", "fast", "--privacy", level, "--json",
        ],
        capture_output=True, text=True, check=False, env=clean_env(home), timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), sorted(str(path) for path in home.rglob("*"))


def test_a_sealed_conversation_is_the_same_conversation(
    starter_models: ModelStore, tmp_path: Path
) -> None:
    empty_network = needs_namespaces()
    sealed, sealed_left = converse(tmp_path / "sealed", "sealed")
    alone, alone_left = converse(tmp_path / "alone", "off", *empty_network)
    said = [(turn["user"], turn["reply"]) for turn in sealed["turns"]]
    assert "Paris" in said[0][1]
    assert said == [(turn["user"], turn["reply"]) for turn in alone["turns"]]
    assert (sealed_left, alone_left) == ([], [])
