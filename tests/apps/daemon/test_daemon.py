from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from apps.daemon.client import Client, DaemonGoneError
from apps.daemon.lock import InstanceLock, running_pid
from apps.daemon.protocol import MAX_CLIENTS, MAX_LINE_BYTES
from edge.errors import EdgeError, UsageError
from tests.apps.daemon.daemon_world import World, running


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short path: a Unix socket's address has room for about a hundred characters."""
    return tmp_path_factory.mktemp("d")


def speaking(line: dict[str, object]) -> bool:
    return line.get("event") == "user"


def test_status_tells_state_privacy_and_the_latency_panel(folder: Path) -> None:
    with running(folder) as world:
        world.wait_for(speaking)
        with world.client() as client:
            found = client.ask("status", id="a")
    assert found["id"] == "a"
    assert found["state"] in ("speaking", "idle")
    assert found["privacy"]["level"] == "off"
    panel = found["panel"]
    assert panel["answers"] >= 1
    assert panel["answer_ms"]["p50"] == pytest.approx(100, rel=0.03)
    assert {"count", "missed", "step_ms"} <= set(panel["frames"])
    assert panel["rss_mb"] > 1


def test_muting_releases_the_microphone_and_toggling_opens_it_again(folder: Path) -> None:
    with running(folder) as world:
        world.wait_for(speaking)
        assert world.n_open == 1
        with world.client() as client:
            assert client.ask("mute")["muted"] is True
            while world.n_open:  # frames go on meanwhile, and in the end the device is free
                assert client.ask("status")["muted"] is True
            assert client.ask("status")["state"] in ("muted", "speaking")
            before = client.ask("status")["panel"]["frames"]["count"]
            world.wait_for(speaking)
            assert client.ask("status")["panel"]["frames"]["count"] > before
            assert client.ask("toggle")["muted"] is False
            while not world.n_open:
                client.ask("status")


def test_the_talk_key_opens_a_muted_microphone_while_it_is_down(folder: Path) -> None:
    with running(folder) as world, world.client() as client:
        client.ask("mute")
        assert client.ask("talk", down=True)["talk"] is True
        assert world.daemon.controls.hears()
        assert client.ask("talk")["talk"] is False
        assert not world.daemon.controls.hears()


def test_stop_silences_a_reply_at_once(folder: Path) -> None:
    with running(folder) as world:
        world.wait_for(speaking)
        with world.client() as client:
            client.ask("stop")
        ended = world.wait_for(lambda line: line.get("event") == "reply")
        assert ended["interrupted"] is True


def test_a_profile_and_a_setting_begin_a_new_conversation(folder: Path) -> None:
    with running(folder) as world, world.client() as client:
        world.wait_for(speaking)
        client.ask("profile", name="cascade-small")
        world.wait_for(speaking)
        client.ask("set", key="talk.prompt", value="Be brief.")
        world.wait_for(speaking)
        with pytest.raises(EdgeError, match="no profile"):
            client.ask("profile", name="nonsense")
        with pytest.raises(EdgeError, match="not for clients"):
            client.ask("set", key="privacy.level", value="off")
        with pytest.raises(EdgeError, match="may not fetch"):
            client.ask("fetch", model="whisper-tiny.en")
    assert world.loaded[-1].talk.prompt == "Be brief."
    assert world.loaded[-1].context.budget_tokens == 256


def test_without_a_microphone_it_says_so_and_goes_on_when_one_is_there(folder: Path) -> None:
    with running(folder, unplugged=True) as world, world.client() as client:
        world.wait_for(lambda line: "no microphone" in str(line.get("error")))
        world.wait_for(speaking)  # frames go on
        assert "no microphone" in client.ask("status")["error"]
        world.unplugged = False
        while not world.n_open:
            client.ask("status")
        world.wait_for(lambda line: line.get("event") == "state" and line["error"] == "")
        assert client.ask("status")["state"] != "error"
    assert len(world.loaded) == 1  # the models were not read again
    assert world.daemon.n_failed == 0


def test_counters_go_on_over_every_release_of_the_microphone(folder: Path) -> None:
    with running(folder) as world, world.client() as client:
        for n_opened in (1, 2, 3):
            while not world.n_open:
                client.ask("status")
            world.wait_for(speaking)
            # Each card has lost one frame.
            assert client.ask("status")["panel"]["queues"]["dropped_in"] == n_opened
            client.ask("mute")
            while world.n_open:
                client.ask("status")
            assert client.ask("status")["panel"]["queues"]["dropped_in"] == n_opened
            client.ask("toggle")


def test_unmuting_without_a_card_goes_on_in_silence_until_there_is_one(folder: Path) -> None:
    with running(folder) as world, world.client() as client:
        world.wait_for(speaking)
        client.ask("mute")
        while world.n_open:
            client.ask("status")
        world.unplugged = True
        assert client.ask("toggle")["muted"] is False
        world.wait_for(lambda line: "no microphone" in str(line.get("error")))
        assert client.ask("status")["state"] != "error"
        world.wait_for(speaking)  # frames go on
        world.unplugged = False
        while not world.n_open:
            client.ask("status")
        world.wait_for(lambda line: line.get("event") == "state" and line["error"] == "")
        assert len(world.loaded) == 1  # the same conversation


def test_hostile_clients_harm_nobody(folder: Path) -> None:
    with running(folder) as world:
        world.wait_for(speaking)
        before = world.daemon.board.trace.n_missed
        crowd = [socket.socket(socket.AF_UNIX) for _ in range(MAX_CLIENTS + 4)]
        for each in crowd:
            each.connect(str(world.socket))
        crowd[0].sendall(b"\xff\x00" * 100 + b"\n")
        crowd[1].sendall(b'{"do": "status"}')  # half a line, and gone
        crowd[2].sendall(b"x" * (MAX_LINE_BYTES + 100))
        crowd[3].sendall(b'{"do":"watch","levels":true}\n')  # and never reads
        crowd[4].settimeout(0.2)
        try:  # asks without end, never reads
            while True:
                crowd[4].sendall(b'{"do":"status"}\n' * 200)
        except OSError:
            crowd[4].close()
        assert b"error" in crowd[0].recv(999)
        for each in crowd:
            each.close()
        with world.client() as client:
            began_s = time.monotonic()
            assert client.ask("status")["ok"] is True
            assert time.monotonic() - began_s < 30
        world.wait_for(speaking)
        assert world.daemon.board.trace.n_missed == before


def test_there_is_one_daemon_and_its_lock_goes_with_it(folder: Path) -> None:
    path = folder / "lock"
    assert running_pid(path) is None
    held = InstanceLock(path)
    assert running_pid(path) is not None
    with pytest.raises(UsageError, match="running already"):
        InstanceLock(path)
    held.release()
    InstanceLock(path).release()


def test_no_daemon_is_one_line(folder: Path) -> None:
    with pytest.raises(DaemonGoneError, match="edge serve"):
        Client(folder / "nothing")


def test_the_socket_is_for_its_owner_alone(folder: Path) -> None:
    with running(folder) as world:
        assert isinstance(world, World)
        assert world.socket.stat().st_mode & 0o077 == 0
