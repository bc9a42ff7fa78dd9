"""Settings: each comes from the first place that has it, and is checked wherever it comes from."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from edge.config import Config, Loaded, Setting, check_toml, load_config, parse_value, settings
from edge.errors import ConfigError

EVERY = list(settings().values())
PLACES = ("system", "user", "environment", "flag")


def _values(one: Setting) -> list[Any]:
    """Four values a setting may have, none of them its default and no two alike if it can be."""
    if one.type is bool:
        return [not one.default] * 4
    if "choices" in one.limits:
        others = [choice for choice in one.limits["choices"] if choice != one.default]
        return (others * 4)[:4]
    if one.type is int or one.type is float:
        # Near the default, so that settings which bound each other stay in order.
        assert isinstance(one.default, int | float)
        step = 1 if one.default < one.limits["high"] - 4 else -1
        if one.type is float and one.limits["high"] - one.limits["low"] < 8:
            step *= (one.limits["high"] - one.limits["low"]) / 16
        return [one.type(one.default + step * i) for i in range(1, 5)]
    if one.type is str:
        return ["a", "b", "c", "d"]
    return [("a",), ("b", "c"), ("d",), ("e", "f")]


def _as_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _write(path: Path, one: Setting, value: Any) -> Path:
    plain = list(value) if isinstance(value, tuple) else value
    path.write_text(tomli_w.dumps({one.table: {one.key: plain}}))
    return path


def _load(tmp_path: Path, one: Setting, given: dict[str, Any]) -> Loaded:
    user, system = tmp_path / "user.toml", tmp_path / "system.toml"
    if "system" in given:
        _write(system, one, given["system"])
    if "user" in given:
        _write(user, one, given["user"])
    env = {one.variable: _as_text(given["environment"])} if "environment" in given else {}
    flags = {one.name: given.get("flag")}
    return load_config(flags, env=env, user_file=user, system_file=system)


def _get(config: Config, one: Setting) -> Any:
    return getattr(getattr(config, one.table), one.key)


def test_there_is_a_setting_for_every_field() -> None:
    fields = {
        f"{table.name}.{field.name}"
        for table in dataclasses.fields(Config)
        for field in dataclasses.fields(getattr(Config(), table.name))
    }
    assert {one.name for one in EVERY} == fields


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.name)
def test_the_first_place_that_has_a_value_wins(tmp_path: Path, one: Setting) -> None:
    given: dict[str, Any] = {}
    nothing = _load(tmp_path, one, given)
    assert _get(nothing.config, one) == one.default
    assert nothing.origins[one.name] == "default"
    origins = {
        "system": str(tmp_path / "system.toml"),
        "user": str(tmp_path / "user.toml"),
        "environment": f"environment {one.variable}",
        "flag": "flag",
    }
    for place, value in zip(PLACES, _values(one), strict=True):
        given[place] = value
        loaded = _load(tmp_path, one, given)
        assert _get(loaded.config, one) == value
        assert type(_get(loaded.config, one)) is type(one.default)
        assert loaded.origins[one.name] == origins[place]
        others = {name: at for name, at in loaded.origins.items() if name != one.name}
        assert set(others.values()) == {"default"}


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.name)
def test_a_value_of_the_wrong_type_is_refused_in_every_place(tmp_path: Path, one: Setting) -> None:
    is_text = one.type is str
    wrong = 3 if is_text or one.type is bool else {"a": 1}
    with pytest.raises(ConfigError, match=rf"user\.toml: {one.table}\.{one.key} is .*must be"):
        _load(tmp_path, one, {"user": wrong})
    with pytest.raises(ConfigError, match=rf"command line: {one.table}\.{one.key} is"):
        parse_value(one.name, wrong, "command line")
    if not is_text and one.type in (bool, int, float):
        with pytest.raises(ConfigError, match=f"environment {one.variable}: .*must be"):
            load_config(
                env={one.variable: "many"}, user_file=tmp_path / "a", system_file=tmp_path / "b"
            )


LIMITED = [one for one in EVERY if "low" in one.limits]


@pytest.mark.parametrize("one", LIMITED, ids=lambda one: one.name)
def test_numbers_stay_within_their_limits(one: Setting) -> None:
    low, high = one.limits["low"], one.limits["high"]
    assert parse_value(one.name, low, "here") == low
    assert parse_value(one.name, str(high), "here") == high
    for beyond in (low - 1, high + 1, math.nan, math.inf, True):
        with pytest.raises(ConfigError, match=f"from {low} to {high}"):
            parse_value(one.name, beyond, "here")


@pytest.mark.parametrize("name", ["talk.engine", "turns.policy"])
def test_choices_are_listed(name: str) -> None:
    with pytest.raises(ConfigError, match=r'must be "[a-z-]+" or "'):
        parse_value(name, "other", "here")


def test_names_may_not_be_empty() -> None:
    with pytest.raises(ConfigError, match=r"models\.asr is ''; it must be text that is not empty"):
        parse_value("models.asr", "", "here")
    assert parse_value("audio.input", "", "here") == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[talk]\nengin = 'cascade'", r"talk\.engin is not a setting; did you mean talk\.engine\?"),
        ("[tlak]\nengine = 'cascade'", r"\[tlak\] is not a table.*did you mean \[talk\]\?"),
        ("[talk]\nbarge_in = true", r"talk\.barge_in .*did you mean turns\.barge_in\?"),
        ("engine = 'cascade'", r"\[engine\] .*did you mean talk\.engine\?"),
        ("[history]\nzzz = 1", r"history\.zzz is not a setting; there are enabled"),
        ("[zzz]\na = 1", r"\[zzz\] is not a table of settings; there are talk, audio"),
        ("talk = 3", r"talk must be a table: write \[talk\]"),
        ("[talk]\nseed = 'x'", r"talk\.seed is 'x'; it must be a whole number from 0 to"),
        ("[talk]\nseed = 1.0", r"talk\.seed is 1\.0; it must be a whole number"),
        ("[turns]\nstop_words = ['a', 1]", r"it must be a list of texts"),
        ("[turns]\nstop_words = 'stop'", r"it must be a list of texts"),
        ("[turns]\nstop_words = [' ']", r"it must be a list of texts"),
        ("[talk\n", "is not valid TOML"),
    ],
)
def test_a_slip_in_a_file_is_named_with_the_way_out(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(env={}, user_file=path, system_file=tmp_path / "none")
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    with pytest.raises(ConfigError, match=says):
        check_toml(text, "here")


def test_a_slip_in_a_variable_is_named_and_foreign_ones_are_left_alone(tmp_path: Path) -> None:
    def load(**env: str) -> Loaded:
        return load_config(env=env, user_file=tmp_path / "a", system_file=tmp_path / "b")

    with pytest.raises(ConfigError, match=r"EDGE_TALK_ENGIN .*did you mean EDGE_TALK_ENGINE\?"):
        load(EDGE_TALK_ENGIN="cascade")
    with pytest.raises(ConfigError, match=r"EDGE_CPU_ZZZ .*there are EDGE_CPU_CORES"):
        load(EDGE_CPU_ZZZ="1")
    foreign = load(EDGE_CONFIG_DIR="/x", EDGE_DATA_DIR="/x", EDGE_PATH="x", PATH="x")
    assert foreign.config == Config()


def test_a_flag_that_is_no_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"command line: talk\.voise .*talk\.voice"):
        load_config(
            {"talk.voise": "x"}, env={}, user_file=tmp_path / "a", system_file=tmp_path / "b"
        )


def test_the_usual_file_is_in_the_folder_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[cpu]\ncores = 3\n")
    env = {"EDGE_CONFIG_DIR": str(tmp_path)}
    assert load_config(env=env, system_file=tmp_path / "none").config.cpu.cores == 3


def test_a_pause_may_not_be_shorter_than_the_silence_that_ends_a_turn() -> None:
    text = "[turns]\nend_silence_ms = 3000\n"
    with pytest.raises(ConfigError, match=r"max_pause_ms is 1312 \(default\).*3000 \(here\)"):
        check_toml(text, "here")
    check_toml(text + "max_pause_ms = 3000\n", "here")
    check_toml(text + "policy = 'fixed'\n", "here")


@pytest.mark.parametrize("word", ["1", "true", "YES", " on "])
@pytest.mark.parametrize("text", [True, False])
def test_words_for_yes_and_no(word: str, text: bool) -> None:
    opposite = {"1": "0", "true": "false", "YES": "NO", " on ": "off"}[word]
    assert parse_value("turns.barge_in", word if text else opposite, "here") is text


def test_a_list_in_a_variable_is_cut_at_commas() -> None:
    assert parse_value("turns.stop_words", " stop , be quiet,", "here") == ("stop", "be quiet")
    assert parse_value("turns.stop_words", "", "here") == ()


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff")
    for path, says in ((tmp_path, "cannot be read"), (tmp_path / "bytes", "is not UTF-8")):
        with pytest.raises(ConfigError, match=says):
            load_config(env={}, user_file=path, system_file=tmp_path / "none")


def test_history_is_off_unless_somebody_turns_it_on() -> None:
    assert Config().history.enabled is False
