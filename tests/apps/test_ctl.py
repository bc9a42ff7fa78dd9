"""`edge ctl` has two ways, the quick one and the whole one; they must be one command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.cli.keys import answered
from apps.cli.main import run
from apps.daemon.protocol import COMMANDS, Request
from apps.daemon.server import ControlServer
from apps.daemon.start import bind
from scripts.tray_pictures import status

FORMS = (
    *("status", "status --json", "mute", "mute on", "mute off", "toggle", "talk", "talk down"),
    *("talk up", "talk toggle", "stop", "reload", "quit", "mute --json", "mute --json off"),
)


@pytest.fixture
def asked(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Request]]:
    """What a control server was asked for, while it runs."""
    path = tmp_path_factory.mktemp("c") / "s"
    monkeypatch.setenv("EDGE_CONTROL_SOCKET", str(path))
    found: list[Request] = []

    def handle(request: Request) -> dict[str, Any]:
        found.append(request)
        return status("idle")

    server = ControlServer(bind(path), handle)
    server.start()
    yield found
    server.close()


@pytest.mark.parametrize("form", FORMS)
def test_the_quick_way_asks_and_says_what_the_whole_command_does(
    form: str, asked: list[Request], capsys: pytest.CaptureFixture[str]
) -> None:
    words = form.split()
    assert answered(words) == 0
    quick = capsys.readouterr().out
    assert run(["ctl", *words]) == 0
    assert capsys.readouterr().out == quick
    assert asked[0] == asked[1]
    assert asked[0].do in COMMANDS


@pytest.mark.parametrize("form", ["", "mute maybe", "--json status", "watch", "status --help"])
def test_what_is_no_plain_form_is_left_to_the_whole_command(
    form: str, asked: list[Request]
) -> None:
    assert answered(form.split()) is None
    assert not asked


def test_no_daemon_is_one_line_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGE_CONTROL_SOCKET", str(tmp_path / "s"))
    assert answered(["stop"]) == 1
    quick = capsys.readouterr().err
    assert run(["ctl", "stop"]) == 1
    assert capsys.readouterr().err == quick


def test_a_key_waits_for_no_library(asked: list[Request]) -> None:
    """Python's own start is most of what a key press takes."""
    script = (
        "import json, sys\nfrom apps.cli.start import main\n"
        "try:\n    main(['ctl', 'toggle'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "apps.daemon.client" in loaded
    assert not {"click", "rich", "numpy", "logging", "dataclasses", "subprocess"} & loaded
    assert asked[0].do == "toggle"
