"""The guard in conftest.py: a test that seals the process of all tests fails, and is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_PLANTED = """
from apps.privacy.seal import seal


def test_before():
    assert True


def test_that_seals(tmp_path):
    {what}


def test_after():
    assert True
"""


def planted(folder: Path, what: str) -> subprocess.CompletedProcess[str]:
    """pytest, with this conftest, over three tests of which the middle one does something."""
    path = folder / "test_planted.py"
    path.write_text(_PLANTED.format(what=what))
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest"),
            *("-p", "no:cacheprovider", "--confcutdir", str(folder), "--rootdir", str(folder)),
            *("-c", "/dev/null", str(path)),
        ],
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="seals are told from /proc")
def test_a_test_that_seals_the_tests_fails_by_name(tmp_path: Path) -> None:
    done = planted(tmp_path, "seal('sealed', record_to=tmp_path / 'refused.json')")
    assert done.returncode == 1, done.stdout + done.stderr
    named = [line for line in done.stdout.splitlines() if line.startswith("ERROR ")]
    assert len(named) == 1, done.stdout
    assert "test_planted.py::test_that_seals" in named[0]
    assert "3 passed, 1 error" in done.stdout
    assert "this test sealed the process that all tests run in" in done.stdout


def test_a_test_that_does_not_seal_is_let_be(tmp_path: Path) -> None:
    done = planted(tmp_path, "seal('off')")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
