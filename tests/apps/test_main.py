"""The door: every error is one line with its exit code, and the table names real commands."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from apps.cli.lazy import Lazy, LazyGroup
from apps.cli.main import COMMANDS, run
from edge.errors import ConfigError, DeviceError, EdgeError, InconclusiveError

ERRORS: dict[str, BaseException] = {
    "edge": EdgeError("it happened; do this"),
    "wrong": ConfigError("a typing error"),
    "device": DeviceError("no card"),
    "unclear": InconclusiveError("too little"),
    "ctrl-c": KeyboardInterrupt(),
    "bug": ZeroDivisionError("division by zero"),
    "absent": ModuleNotFoundError("No module named 'soxr'", name="soxr.deep"),
}


@click.command()
@click.argument("kind")
def raise_it(kind: str) -> None:
    """Raise one of the errors above."""
    raise ERRORS[kind]


@click.command()
@click.pass_context
def leave(ctx: click.Context) -> None:
    """End as a check that found something."""
    ctx.exit(1)


TABLE = {
    "raise": Lazy(f"{__name__}:raise_it", "Raise."),
    "leave": Lazy(f"{__name__}:leave", "Leave."),
}
GROUP = LazyGroup("edge", table=TABLE)


@pytest.mark.parametrize(
    ("kind", "exit_code", "line"),
    [
        ("edge", 1, "edge: error: it happened; do this"),
        ("wrong", 2, "edge: error: a typing error"),
        ("device", 1, "edge: error: no card"),
        ("unclear", 3, "edge: error: too little"),
        ("ctrl-c", 130, "edge: error: interrupted"),
        ("bug", 1, "edge: error: internal error (ZeroDivisionError: division by zero); run"),
        ("absent", 1, "edge: error: the package soxr is not installed; `pip install"),
    ],
)
def test_every_error_is_one_line_and_its_exit_code(
    kind: str, exit_code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["raise", kind], GROUP) == exit_code
    said = capsys.readouterr()
    assert said.out == ""
    # click ends the terminal's "^C" with an empty line
    assert said.err.strip().startswith(line)
    assert "\n" not in said.err.strip()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rise"], "there is no command rise; did you mean raise? (see `edge --help`)"),
        (["leave", "--quietly"], "--quietly"),
        (["raise"], "Missing argument"),
    ],
)
def test_wrong_use_is_one_line_that_names_what_is_right(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments, GROUP) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_a_command_chooses_its_exit_code() -> None:
    assert run(["leave"], GROUP) == 1
    assert run(["--help"], GROUP) == 0


def test_debug_shows_the_traceback_of_a_bug() -> None:
    with pytest.raises(ZeroDivisionError):
        run(["raise", "bug", "--debug"], LazyGroup("edge", table={"raise": DEBUGGED}))


@click.command()
@click.argument("kind")
@click.option("--debug", is_flag=True)
def raise_debugged(kind: str, *, debug: bool) -> None:
    """Raise, with the option that asks for tracebacks."""
    raise ERRORS[kind]


DEBUGGED = Lazy(f"{__name__}:raise_debugged", "Raise.")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_names_a_command_that_has_help(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: edge {name}")


def test_the_module_is_the_script() -> None:
    def said(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    script = "from apps.cli.main import main; main()"
    for option in ("--help", "--version"):
        by_module = said(sys.executable, "-m", "apps.cli", option)
        assert by_module == said(sys.executable, "-c", script, option)
        assert by_module.splitlines()


def test_a_reader_that_leaves_early_is_no_error() -> None:
    script = "import sys; from apps.cli.main import run; sys.exit(run(['licences', '--json']))"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 1
