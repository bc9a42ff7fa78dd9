"""Folders: the user's word first, then systemd's, then the platform's; nothing made unasked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from edge.errors import EdgeError
from edge.paths import (
    cache_dir,
    config_dir,
    data_dir,
    make_dir,
    runtime_dir,
    state_dir,
    system_config_file,
    user_config_file,
)

Finder = Callable[[Mapping[str, str] | None], Path]
FOLDERS: list[tuple[Finder, str | None, str]] = [
    (config_dir, "EDGE_CONFIG_DIR", "CONFIGURATION_DIRECTORY"),
    (data_dir, "EDGE_DATA_DIR", "STATE_DIRECTORY"),
    (cache_dir, "EDGE_CACHE_DIR", "CACHE_DIRECTORY"),
    (state_dir, "EDGE_STATE_DIR", "STATE_DIRECTORY"),
    (runtime_dir, None, "RUNTIME_DIRECTORY"),
]


@pytest.mark.parametrize(("find", "ours", "systemd"), FOLDERS)
def test_our_variable_wins_then_systemd_then_the_platform(
    tmp_path: Path, find: Finder, ours: str | None, systemd: str
) -> None:
    env = {systemd: f"{tmp_path}/unit:{tmp_path}/second"}
    assert find(env) == tmp_path / "unit"
    if ours is not None:
        assert find({**env, ours: f"{tmp_path}/mine"}) == tmp_path / "mine"
        assert find({**env, ours: ""}) == tmp_path / "unit"
    platform = find({})
    assert platform.is_absolute()
    assert "edgevoice" in platform.parts
    assert find({systemd: ""}) == platform
    assert list(tmp_path.iterdir()) == []


def test_sockets_live_in_the_session_or_in_the_own_cache(tmp_path: Path) -> None:
    assert runtime_dir({"XDG_RUNTIME_DIR": str(tmp_path)}) == tmp_path / "edgevoice"
    without = runtime_dir({"EDGE_CACHE_DIR": str(tmp_path)})
    assert sys.platform != "linux" or without == tmp_path / "run"


def test_a_relative_or_home_folder_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert data_dir({"EDGE_DATA_DIR": "here"}) == tmp_path / "here"
    assert data_dir({"EDGE_DATA_DIR": "~/there"}) == tmp_path / "home" / "there"


def test_without_a_mapping_the_environment_of_the_process_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_CONFIG_DIR", str(tmp_path))
    assert user_config_file() == tmp_path / "config.toml"


def test_the_machine_wide_file_on_linux() -> None:
    assert system_config_file("linux") == Path("/etc/edgevoice/config.toml")
    assert system_config_file("darwin").name == "config.toml"


def test_a_folder_is_made_on_request(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert make_dir(folder, private=True) == folder
    assert folder.stat().st_mode & 0o077 == 0
    assert make_dir(folder) == folder


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(EdgeError, match="is a file"):
        make_dir(tmp_path / "file")
    with pytest.raises(EdgeError, match="cannot be created"):
        make_dir(tmp_path / "file" / "below")
