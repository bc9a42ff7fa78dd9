"""What was kept can be read through the daemon, and after a purge it is nowhere."""

from __future__ import annotations

import gc
import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from click.testing import CliRunner

from apps.cli.history import history
from apps.cli.main import run
from edge.history import History
from edge.paths import prompt_cache_dir
from tests.apps.daemon.daemon_world import World, running

WORD = "tangerine"


@pytest.fixture
def world(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    """A daemon that keeps what is said, in folders of its own."""
    folder = tmp_path_factory.mktemp("h")
    for name in ("CONFIG", "DATA", "CACHE"):
        monkeypatch.setenv(f"EDGE_{name}_DIR", str(folder / name.lower()))
    monkeypatch.setenv("EDGE_CONTROL_SOCKET", str(folder / "s"))
    monkeypatch.setenv("EDGE_HISTORY_ENABLED", "true")
    with running(folder) as found:
        found.word = WORD
        yield found


def kept_file(world: World) -> History:
    return History.open(world.daemon.config())


def wait_for_turn(world: World) -> None:
    """Until a turn with the word is over, and so kept."""
    world.wait_for(lambda line: line.get("event") == "reply" and WORD in str(line["text"]))


def is_a(value: object, *kinds: type) -> bool:
    """By its type alone: isinstance asks the object, and some libraries' objects then warn."""
    return issubclass(type(value), kinds)


def as_text(value: object) -> str:
    """A text or bytes as a text; nothing else holds words."""
    if is_a(value, bytes, bytearray):
        return bytes(cast("bytes", value)).decode("utf-8", "replace")
    return cast("str", value) if is_a(value, str) else ""


def holding(word: str) -> list[str]:
    """Texts in containers that are alive and hold the word."""
    gc.collect()
    found: list[str] = []
    for each in gc.get_objects():
        if is_a(each, dict, list, tuple, deque):
            values = each.values() if is_a(each, dict) else each
            found += [text for text in map(as_text, list(values)) if f"{word} said" in text]
    return found


def test_the_daemon_shows_what_it_kept(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    wait_for_turn(world)
    with world.client() as client:
        found = client.ask("history", words=f"hello {WORD.upper()}", last=1)
        assert found["enabled"] is True
        assert [turn["reply"] for turn in found["turns"]] == [f"{WORD} said"]
        assert client.ask("history", words="kumquat")["turns"] == []
    assert run(["ctl", "history", WORD, "--last", "1"]) == 0
    assert f"{WORD} said" in capsys.readouterr().out


def test_an_answer_has_room_for_the_newest_only(world: World) -> None:
    wait_for_turn(world)
    kept = kept_file(world)
    for number in range(100):
        kept.append(user=f"{number} " + "x" * 3000, reply="", engine="")
    with world.client() as client:
        turns = client.ask("history", words="xxx", last=100)["turns"]
    assert 10 < len(turns) < 100
    assert turns[-1]["user"].startswith("99 ")


def test_a_purge_leaves_it_neither_on_the_disk_nor_in_the_memory(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    wait_for_turn(world)
    kept, prompts = kept_file(world), prompt_cache_dir()
    prompts.mkdir(parents=True)
    (prompts / "abc.state").write_bytes(b"cached")
    half_written = kept.path.parent / ".turns.jsonl.0.part"
    half_written.write_text(WORD)
    assert holding(WORD)  # the means of looking do find it
    before = len(world.loaded)
    world.word = "kumquat"
    result = CliRunner().invoke(history, ["purge", "--yes", "--json"])
    facts = json.loads(result.stdout)
    assert facts["daemon"] is True
    assert facts["removed_turns"] >= 1
    assert facts["removed_prompts"] == 1
    world.wait_for(lambda line: line.get("event") == "reply" and "kumquat" in str(line["text"]))
    assert len(world.loaded) == before + 1  # another conversation
    folder = Path(kept.path).parents[1]
    left = [path for path in folder.rglob("*") if path.is_file() and WORD in path.read_text()]
    assert not left
    assert not list(prompts.iterdir())
    assert not holding(WORD)


def test_a_turn_that_waits_to_go_on_is_not_written_down_after_the_purge(world: World) -> None:
    """An interrupted reply is kept only when the next begins, or the conversation ends."""
    world.wait_for(lambda line: line.get("event") == "user")
    with world.client() as client:
        client.ask("stop")
        client.ask("watch")
        client.send("purge")
        next(line for line in client.lines() if line.get("event") == "purged")
        world.word = "kumquat"
    world.wait_for(lambda line: line.get("event") == "reply" and "kumquat" in str(line["text"]))
    assert not any(WORD in turn.reply for turn in kept_file(world).turns())


def test_without_a_daemon_purging_removes_turns_and_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CONFIG", "DATA", "CACHE"):
        monkeypatch.setenv(f"EDGE_{name}_DIR", str(tmp_path / name.lower()))
    monkeypatch.setenv("EDGE_CONTROL_SOCKET", str(tmp_path / "none"))
    prompts = prompt_cache_dir()
    prompts.mkdir(parents=True)
    (prompts / "abc.state").write_bytes(b"cached")
    result = CliRunner().invoke(history, ["purge", "--yes", "--json"])
    facts = json.loads(result.stdout)
    assert facts["removed_prompts"] == 1
    assert facts["daemon"] is False
    assert not list(prompts.iterdir())
