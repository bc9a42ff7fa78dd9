"""`edge config`: shows what is in force, and changes one thing without harming another."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from apps.cli.config import config
from apps.cli.config_text import set_in_text, template
from edge.config import check_toml, settings
from edge.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for one in settings().values():
        monkeypatch.delenv(one.variable, raising=False)
    monkeypatch.setenv("EDGE_CONFIG_DIR", str(tmp_path / "config"))
    return tmp_path / "config"


def _run(*arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(config, arguments, input=stdin, env=env)


def _shown(*arguments: str, env: dict[str, str] | None = None) -> str:
    result = _run(*arguments, env=env)
    assert result.exit_code == 0, result.output
    return result.stdout


def _editor(tmp_path: Path, text: str) -> dict[str, str]:
    """An editor that replaces the whole text, and saves it a good while later."""
    script = tmp_path / "editor.py"
    script.write_text(
        "import os, pathlib, sys\n"
        f"pathlib.Path(sys.argv[1]).write_text({text!r})\n"
        "os.utime(sys.argv[1], (2e9, 2e9))\n"
    )
    return {"VISUAL": f"{sys.executable} {script}", "EDITOR": ""}


def test_what_is_shown_is_toml_with_every_setting(folder: Path) -> None:
    for arguments in (["show"], ["show", "--origin"]):
        shown = check_toml(_shown(*arguments), "shown")
        assert set(shown) == set(settings())
    assert not folder.exists()


def test_json_has_values_and_origins(folder: Path) -> None:
    _shown("set", "cpu.cores", "3")
    facts = json.loads(_shown("show", "--json", env={"EDGE_TALK_VOICE": "low"}))
    assert facts["settings"]["cpu"]["cores"] == 3
    assert facts["origins"]["cpu.cores"] == str(folder / "config.toml")
    assert facts["origins"]["talk.voice"] == "environment EDGE_TALK_VOICE"
    assert facts["settings"]["turns"]["stop_words"] == ["stop"]
    assert f"# {folder / 'config.toml'}" in _shown("show", "--origin")


def test_the_path_is_told_whether_it_exists_or_not(folder: Path) -> None:
    assert _shown("path") == f"{folder / 'config.toml'}\n"
    facts = json.loads(_shown("path", "--json"))
    assert facts["user"] == {"path": str(folder / "config.toml"), "exists": False}


def test_setting_one_keeps_the_others_and_the_comments(folder: Path) -> None:
    folder.mkdir()
    file = folder / "config.toml"
    file.write_text("# mine\n[talk]\nseed = 1  # lucky\nvoice = 'a # b'\n\n[cpu]\ncores = 1\n")
    for key, value in (("talk.seed", "7"), ("cpu.cores", "2"), ("audio.duck_db", "-6")):
        _shown("set", key, value)
    assert file.read_text() == (
        "# mine\n[talk]\nseed = 7  # lucky\nvoice = 'a # b'\n\n[cpu]\ncores = 2\n"
        "\n[audio]\nduck_db = -6.0\n"
    )
    assert [entry.name for entry in folder.iterdir()] == ["config.toml"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[turns]",
        "[turns]\nstop_words = ['a']\nbarge_in = true",
        "[turns]\nstop_words = [\n 'a', # one\n 'b',\n]\n[cpu]\ncores = 2\n",
        "turns.barge_in = false\n",
        "turns = { barge_in = false, stop_words = ['x'] }\n",
        '[talk]\nprompt = """\n[turns]\nstop_words = 3\n"""\n',
        "[ turns ] # here\n'stop_words' = []\n",
    ],
)
def test_any_form_of_toml_can_be_changed(text: str) -> None:
    value = ("stop", "be # quiet", 'say "no"')
    wanted = tomllib.loads(text)
    wanted.setdefault("turns", {})["stop_words"] = list(value)
    assert tomllib.loads(set_in_text(text, "turns", "stop_words", value)) == wanted


def test_setting_the_same_again_changes_nothing(folder: Path) -> None:
    for _ in range(2):
        _shown("set", "turns.stop_words", "stop,quiet")
        _shown("set", "talk.prompt", "one\ntwo # three")
    text = (folder / "config.toml").read_text()
    assert check_toml(text, "file") == {
        "turns.stop_words": ("stop", "quiet"),
        "talk.prompt": "one\ntwo # three",
    }


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("talk.engin", "x", "did you mean talk.engine?"),
        ("talk.engine", "x", 'must be "cascade"'),
        ("cpu.cores", "many", "a whole number"),
        ("turns.end_silence_ms", "5000", "change one of them"),
    ],
)
def test_a_wrong_value_is_not_written(folder: Path, key: str, value: str, says: str) -> None:
    result = _run("set", key, value)
    assert isinstance(result.exception, ConfigError)
    assert says in str(result.exception)
    assert not folder.exists()


def test_setting_corrects_a_wrong_value_but_not_a_broken_file(folder: Path) -> None:
    folder.mkdir()
    file = folder / "config.toml"
    file.write_text("[cpu]\ncores = 'all'\n")
    assert json.loads(_shown("set", "cpu.cores", "0", "--json"))["value"] == 0
    for broken, says in (("[cpu\n", "not valid TOML"), ("cpu = 1\n", "must be a table")):
        file.write_text(broken)
        result = _run("set", "cpu.cores", "1")
        assert isinstance(result.exception, ConfigError)
        assert says in str(result.exception)
        assert file.read_text() == broken


def test_a_variable_that_wins_over_the_file_is_told(folder: Path) -> None:
    result = _run("set", "cpu.cores", "1", env={"EDGE_CPU_CORES": "2"})
    assert "EDGE_CPU_CORES is set too" in result.stderr
    assert (folder / "config.toml").exists()


def test_the_template_names_every_setting_and_changes_none() -> None:
    assert check_toml(template(), "template") == {}
    lines = template().splitlines()
    plain = "\n".join(x[2:] if x.startswith("# ") and i > 2 else x for i, x in enumerate(lines))
    given = check_toml(plain, "template")
    assert given == {name: one.default for name, one in settings().items()}


def test_an_edited_file_is_checked_before_it_is_saved(folder: Path, tmp_path: Path) -> None:
    result = _run("edit", env=_editor(tmp_path, "[cpu]\ncores = 4 # mine\n"))
    assert result.exit_code == 0, result.output
    assert (folder / "config.toml").read_text() == "[cpu]\ncores = 4 # mine\n"
    result = _run("edit", stdin="n\n", env=_editor(tmp_path, "[cpu]\ncoers = 4\n"))
    assert isinstance(result.exception, ConfigError)
    assert "did you mean cpu.cores?" in result.stderr
    assert (folder / "config.toml").read_text() == "[cpu]\ncores = 4 # mine\n"


def test_leaving_the_editor_without_saving_changes_nothing(folder: Path) -> None:
    result = _run("edit", env={"VISUAL": "true", "EDITOR": ""})
    assert result.exit_code == 0, result.output
    assert "nothing changed" in result.output
    assert not folder.exists()
