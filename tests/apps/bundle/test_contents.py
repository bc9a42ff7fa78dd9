from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from apps.bundle.contents import gpl_binaries, gpl_packages, licence_files, starter_files
from apps.bundle.entry import start
from edge.store import ModelStore


def test_no_package_of_the_bundle_is_gpl() -> None:
    assert gpl_packages(("talk", "tray")) == []


def test_a_planted_gpl_library_is_found(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    for name in ("libreadline.so.8", "libgdbm-abc.so.6", "libsndfile.so"):
        (tmp_path / "lib" / name).touch()
    assert gpl_binaries(tmp_path) == ["lib/libgdbm-abc.so.6", "lib/libreadline.so.8"]


def test_licences_of_what_is_bundled_are_collected() -> None:
    packages = {package for package, _ in licence_files(("talk",))}
    assert {"numpy", "onnxruntime", "click"} <= packages


def test_every_starter_model_goes_in(starter_models: ModelStore) -> None:
    names = {name.partition("/")[0] for name, _ in starter_files()}
    starters = {model.name for model in starter_models.lock.models if model.starter}
    inside = {"hibari-heart"} - {p.name for p in starter_models.root.iterdir()}
    assert names == starters - inside


def test_the_entry_runs_our_modules_as_python_would() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "apps.bundle.entry", "-m", "apps.privacy.probe", "off"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert '"level": "off"' in done.stdout
    with pytest.raises(SystemExit) as ended:
        start(["-m", "os.path"])  # not ours: a wrong command
    assert ended.value.code == 2
