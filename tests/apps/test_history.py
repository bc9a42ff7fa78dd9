"""`edge history`: what was kept can be read, taken along and removed."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from apps.cli.history import history
from edge.config import Config, HistoryConfig
from edge.errors import EdgeError, UsageError
from edge.history import History, matching


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    monkeypatch.setenv("EDGE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("EDGE_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("EDGE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGE_CONTROL_SOCKET", str(tmp_path / "no-daemon"))
    monkeypatch.delenv("EDGE_HISTORY_ENABLED", raising=False)
    found = History.open(Config(history=HistoryConfig(enabled=True)))
    for user in ("one", "two", "three"):
        found.append(user=user, reply=f"{user} again", engine="cascade")
    return found


def _run(*arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(history, arguments, input=stdin, env=env)


def _facts(*arguments: str, env: dict[str, str] | None = None) -> dict[str, object]:
    result = _run(*arguments, env=env)
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert isinstance(facts, dict)
    return facts


def test_turns_are_listed_oldest_first(kept: History) -> None:
    facts = _facts("list", "--json", env={"EDGE_HISTORY_ENABLED": "yes"})
    assert facts["enabled"] is True
    assert facts["path"] == str(kept.path)
    turns = facts["turns"]
    assert isinstance(turns, list)
    assert [turn["user"] for turn in turns] == ["one", "two", "three"]
    text = _run("list", "--last", "1").stdout
    assert "three again" in text
    assert "two" not in text


def test_it_is_told_that_nothing_is_kept_and_that_history_is_off(kept: History) -> None:
    kept.purge()
    result = _run("list")
    assert "nothing is kept" in result.stdout
    assert "history is off" in result.stderr
    assert _facts("list", "--json")["enabled"] is False


@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_an_export_is_the_same_on_screen_and_in_a_file(
    kept: History, tmp_path: Path, form: str
) -> None:
    screen = _run("export", "--format", form).stdout
    file = tmp_path / "out"
    facts = _facts("export", "--format", form, "--output", str(file), "--json")
    assert facts == {"path": str(file), "format": form, "turns": 3}
    assert file.read_text() == screen
    assert screen.count("again") == len(list(kept.turns()))


def test_an_export_with_json_is_json(kept: History) -> None:
    assert _facts("export", "--json")["turns"] == [
        {"time": turn.time, "user": turn.user, "reply": turn.reply, "engine": "cascade"}
        for turn in kept.turns()
    ]
    result = _run("export", "--json", "--format", "text")
    assert isinstance(result.exception, UsageError)


def test_an_export_into_a_missing_folder_is_refused(kept: History, tmp_path: Path) -> None:
    result = _run("export", "--output", str(tmp_path / "missing" / "out"))
    assert isinstance(result.exception, EdgeError)
    assert "create it first" in str(result.exception)
    assert len(list(kept.turns())) == 3


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_a_purge_asks_and_no_answer_is_no(kept: History, answer: str) -> None:
    result = CliRunner().invoke(history, ["purge"], input=answer, standalone_mode=False)
    assert isinstance(result.exception, click.Abort)
    assert len(list(kept.turns())) == 3


def test_a_purge_removes_every_turn(kept: History) -> None:
    assert _run("purge", stdin="y\n").stdout == "3 turns and 0 cached prompts removed\n"
    assert not kept.path.exists()
    assert _facts("purge", "--yes", "--json") == {
        "path": str(kept.path),
        "removed_turns": 0,
        "removed_prompts": 0,
        "daemon": False,
    }


def test_search_wants_every_word(kept: History) -> None:
    assert "two again" in _run("search", "AGAIN", "two").stdout
    turns = _facts("search", "again", "two", "--json")["turns"]
    assert isinstance(turns, list)
    assert [turn["user"] for turn in turns] == ["two"]
    assert "no such turn" in _run("search", "four").stdout
    everything = list(kept.turns())
    assert list(matching(everything, "")) == everything
    assert list(matching(everything, everything[0].time)) == [
        turn for turn in everything if turn.time == everything[0].time
    ]
    assert kept.recent("again", last=2) == everything[1:]
