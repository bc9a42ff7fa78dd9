"""The daemon over what stands for a named pipe on Windows; here its family is AF_UNIX."""

from __future__ import annotations

import time
from collections.abc import Callable
from multiprocessing import connection
from pathlib import Path

import pytest

from apps.daemon.client import Client, DaemonGoneError, over_pipe
from apps.daemon.pipe import PipeStream, introduce, pipe_address, secret
from apps.daemon.protocol import MAX_CLIENTS, MAX_LINE_BYTES
from edge.errors import EdgeError
from tests.apps.daemon.daemon_world import World, running


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("p")


def speaking(line: dict[str, object]) -> bool:
    return line.get("event") == "user"


def soon(what: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end_s, "it never happened"


def is_let_in(world: World) -> bool:
    try:
        with world.client() as client:
            return client.ask("status")["ok"] is True
    except DaemonGoneError as error:
        if "too many clients" not in str(error):
            raise
        return False


def test_commands_answers_and_events_are_those_of_the_socket(folder: Path) -> None:
    with running(folder, pipe=True) as world:
        world.wait_for(speaking)
        world.wait_for(lambda line: line.get("event") == "levels")
        with world.client() as client:
            assert client.ask("status", id="a")["id"] == "a"
            assert client.ask("mute")["muted"] is True
            soon(lambda: world.n_open == 0)
            assert client.ask("toggle")["muted"] is False
            with pytest.raises(EdgeError, match="no such command"):
                client.ask("fly")
            assert client.ask("status")["clients"] == 1
        soon(lambda: world.daemon.status()["clients"] == 0)


def test_who_does_not_know_the_secret_is_not_heard(folder: Path) -> None:
    with running(folder, pipe=True) as world:
        world.wait_for(speaking)
        with pytest.raises(OSError, match="does not know us"):
            PipeStream(pipe_address(world.socket), b"a guess")
        assert world.client().ask("status")["muted"] is False


def test_a_client_knows_the_daemon_from_another_program(folder: Path) -> None:
    address = str(folder / "other")
    with connection.Listener(address, family="AF_UNIX") as listener:
        caller = connection.Client(address, family="AF_UNIX")
        other = listener.accept()
        other.send_bytes(bytes(32))
        other.send_bytes(bytes(32))  # no proof
        with pytest.raises(OSError, match="not our daemon"):
            introduce(caller, secret(folder))
        caller.close()
        other.close()


def test_hostile_clients_harm_nobody(folder: Path) -> None:
    with running(folder, pipe=True) as world:
        world.wait_for(speaking)
        address = pipe_address(world.socket)
        silent = [connection.Client(address, family="AF_UNIX") for _ in range(MAX_CLIENTS + 4)]
        for each in silent:
            each.close()
        soon(lambda: is_let_in(world) and world.daemon.status()["clients"] <= 1)
        with world.client() as rude, world.client() as client:
            rude.socket.sendall(b"x" * (MAX_LINE_BYTES + 100))
            with pytest.raises(DaemonGoneError):
                rude.next_line()
            assert client.ask("status")["ok"] is True
        reader = over_pipe(world.socket)
        reader.sendall(b'{"do": "watch", "levels": true}')  # and never reads
        world.wait_for(speaking)
        reader.close()


def test_a_silent_client_loses_its_place(folder: Path) -> None:
    with running(folder, pipe=True) as world:
        world.wait_for(speaking)
        soon(lambda: world.daemon.status()["clients"] == 0)
        silent = [
            connection.Client(pipe_address(world.socket), family="AF_UNIX")
            for _ in range(MAX_CLIENTS)
        ]
        soon(lambda: world.daemon.status()["clients"] == MAX_CLIENTS)
        assert not is_let_in(world)
        soon(lambda: is_let_in(world))
        for each in silent:
            each.close()


def test_no_daemon_is_one_line(folder: Path) -> None:
    with pytest.raises(DaemonGoneError, match="edge serve"):
        Client(folder / "nothing", connect=over_pipe)


def test_the_secret_is_made_once_and_is_its_owner_s_alone(folder: Path) -> None:
    assert secret(folder / "run") == secret(folder / "run")
    (path,) = (folder / "run").iterdir()
    assert path.stat().st_mode & 0o077 == 0
