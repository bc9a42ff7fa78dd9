"""History: nothing without consent, nothing lost with it, nothing left after a purge."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from edge.config import Config, HistoryConfig
from edge.errors import EdgeError
from edge.history import History, Turn, to_json, to_markdown, to_text

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def _history(tmp_path: Path, *, enabled: bool = True) -> History:
    return History(tmp_path / "history" / "turns.jsonl", enabled=enabled)


def _add(history: History, user: str, reply: str = "yes", at: datetime = NOON) -> bool:
    return history.append(user=user, reply=reply, engine="cascade", at=at)


def test_nothing_is_written_unless_it_is_enabled(tmp_path: Path) -> None:
    history = _history(tmp_path, enabled=False)
    assert not _add(history, "secret")
    assert list(tmp_path.iterdir()) == []
    assert list(history.turns()) == []


def test_the_usual_place_follows_the_configuration(tmp_path: Path) -> None:
    env = {"EDGE_DATA_DIR": str(tmp_path)}
    assert not History.open(Config(), env=env).enabled
    on = History.open(Config(history=HistoryConfig(enabled=True)), env=env)
    assert on.enabled
    assert on.path.is_relative_to(tmp_path)


def test_turns_come_back_in_order_and_whole(tmp_path: Path) -> None:
    history = _history(tmp_path)
    said = ['a "quoted" one', "zwei\nZeilen \u2028 \x1b[31m", "три", ""]
    for i, user in enumerate(said):
        assert _add(history, user, reply=user[::-1], at=NOON + timedelta(seconds=i))
    turns = list(_history(tmp_path, enabled=False).turns())
    assert [turn.user for turn in turns] == said
    assert [turn.reply for turn in turns] == [user[::-1] for user in said]
    assert turns[1] == Turn("2024-05-01T12:00:01+00:00", said[1], said[1][::-1], "cascade")


def test_times_are_kept_in_utc(tmp_path: Path) -> None:
    history = _history(tmp_path)
    _add(history, "x", at=NOON.astimezone(timezone(timedelta(hours=9))))
    before = datetime.now(UTC).replace(microsecond=0)
    history.append(user="y", reply="", engine="cascade")
    first, second = history.turns()
    assert first.time == "2024-05-01T12:00:00+00:00"
    assert before <= datetime.fromisoformat(second.time) <= datetime.now(UTC)


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    history = _history(tmp_path)
    _add(history, "x")
    assert history.path.stat().st_mode & 0o077 == 0
    assert history.path.parent.stat().st_mode & 0o077 == 0


def test_writers_at_the_same_time_do_not_mix_their_lines(tmp_path: Path) -> None:
    texts = [str(i) * 500 for i in range(40)]
    with ThreadPoolExecutor(4) as pool:
        kept = list(pool.map(lambda text: _add(_history(tmp_path), text), texts))
    assert all(kept)
    assert sorted(turn.user for turn in _history(tmp_path).turns()) == sorted(texts)


@pytest.mark.parametrize("damage", [b'{"time": "20', b"[1]\n", b'{"time": 3}\n', b"\xff\n", b"\n"])
def test_a_damaged_line_costs_no_other(tmp_path: Path, damage: bytes) -> None:
    history = _history(tmp_path)
    _add(history, "before")
    with history.path.open("ab") as file:
        file.write(damage)
    _add(history, "after")
    assert [turn.user for turn in history.turns()] == ["before", "after"]


def test_purging_removes_everything_and_says_how_much(tmp_path: Path) -> None:
    history = _history(tmp_path)
    assert history.purge() == 0
    for user in "abc":
        _add(history, user)
    (history.path.parent / ".export.0123456789abcdef.part").write_text("a b c")
    assert _history(tmp_path, enabled=False).purge() == 3
    assert list(history.path.parent.iterdir()) == []
    assert list(history.turns()) == []
    assert _add(history, "d")
    assert [turn.user for turn in history.turns()] == ["d"]


def test_a_history_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    history = History(tmp_path / "turns.jsonl", enabled=True)
    history.path.mkdir()
    with pytest.raises(EdgeError, match="cannot be written"):
        _add(history, "x")
    with pytest.raises(EdgeError, match="cannot be read"):
        list(history.turns())


def test_exports_hold_every_word_and_no_control_character() -> None:
    turns = [
        Turn("2024-05-01T12:00:00+00:00", "what is *this*", "two\nlines\x1b[2J", "cascade"),
        Turn("2024-05-02T08:30:00+00:00", "и это", "ok", "cascade"),
    ]
    assert json.loads(to_json(iter(turns)))["turns"][0]["reply"] == "two\nlines\x1b[2J"
    text, markdown = to_text(iter(turns)), to_markdown(iter(turns))
    assert text.count("\n") == 3
    assert "two lines [2J" in text
    assert "\x1b" not in text + markdown
    assert markdown.count("## 2024-05-0") == 2
    assert "**12:00 You:** what is \\*this\\*" in markdown
    assert "и это" in text
    assert "и это" in markdown
