"""SIGTERM ends every command, also one whose shell has it ignore Ctrl-C; real child processes."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from apps.daemon.start import bind
from apps.signals import on_end, told_to_end

# As a shell without job control starts what is put into the background.
DEAF = 'trap "" INT; exec "$@"'


def start_deaf(*words: str, folder: Path, **env: str) -> subprocess.Popen[str]:
    """`edge WORDS` with SIGINT ignored from the start, in folders of its own."""
    own = {f"EDGE_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "CACHE")}
    return subprocess.Popen(
        ["/bin/sh", "-c", DEAF, "sh", sys.executable, "-m", "apps.cli", *words],
        env={**os.environ, **own, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_command_started_in_the_background_ends_as_interrupted(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("k")
    listener = bind(folder / "s")
    child = start_deaf("ctl", "watch", folder=folder, EDGE_CONTROL_SOCKET=str(folder / "s"))
    line, _ = listener.accept()  # it is in the middle of it
    with line, listener:
        assert b"watch" in line.recv(100)
        child.send_signal(signal.SIGINT)  # which it was told to ignore
        child.send_signal(signal.SIGTERM)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 130
    assert said.strip().endswith("interrupted")


def test_a_daemon_started_in_the_background_ends_cleanly(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("k")
    path = folder / "s"
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(folder / "n"))
    manager.settimeout(60)
    names = {"EDGE_CONTROL_SOCKET": str(path), "RUNTIME_DIRECTORY": str(folder)}
    child = start_deaf(
        *shlex.split("serve --privacy off"), folder=folder, NOTIFY_SOCKET=str(folder / "n"), **names
    )
    with manager:
        while b"READY=1" not in manager.recv(1000):  # it serves; without models it says so, waits
            assert child.poll() is None
        assert path.exists()
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=60)
    assert child.returncode == 0
    assert not path.exists()


def test_being_told_to_end_is_heard_and_ignoring_ctrl_c_respected() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    heard: list[int] = []
    try:
        with told_to_end(lambda: heard.append(1)):
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
        assert heard == [1, 1]
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert set(on_end(lambda *_: heard.append(2))) == {signal.SIGTERM}
        signal.raise_signal(signal.SIGINT)
        assert heard == [1, 1]
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])
