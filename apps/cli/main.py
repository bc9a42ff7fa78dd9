"""The door of the `edge` command: which module holds which command, and what an error looks like.

No command's module is imported before that command is asked for, so `edge --help` is quick.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import click

from apps.cli.lazy import Lazy, LazyGroup
from apps.signals import end_as_interrupted
from edge.errors import EdgeError

log = logging.getLogger(__name__)

DISTRIBUTION = "edgevoice"
OWN_PACKAGES = ("edge", "runtime", "export", "quant", "apps")
EXIT_INTERRUPTED = 130  # as shells count: 128 + SIGINT

# Told to libraries before any of them is imported. Nothing here may reach out by itself.
QUIET_ENV = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "OPENBLAS_NUM_THREADS": "1",  # its idle threads spin on cores that the models need
}

COMMANDS = {
    "talk": Lazy("apps.cli.talk:talk", "Talk with the assistant, live or through audio files."),
    "demo": Lazy("apps.cli.talk:demo", "Let a bundled spoken question go through the assistant."),
    "privacy": Lazy("apps.cli.privacy:privacy", "Show and enforce that nothing leaves here."),
    "serve": Lazy("apps.cli.serve:serve", "Hold sound and models, for the tray and for keys."),
    "ctl": Lazy("apps.cli.ctl:ctl", "Tell the running daemon what to do."),
    "tray": Lazy("apps.cli.tray:tray", "Show the daemon in the desktop's tray."),
    "appliance": Lazy("apps.cli.appliance:appliance", "Make a machine that only talks."),
    "devices": Lazy("apps.cli.devices:devices", "List microphones and speakers."),
    "models": Lazy("apps.cli.models:models", "List, fetch, verify and import models."),
    "config": Lazy("apps.cli.config:config", "Show the settings and where each comes from."),
    "history": Lazy("apps.cli.history:history", "List, search, export or purge transcripts."),
    "doctor": Lazy("apps.cli.doctor:doctor", "Check this machine, and say what to do about it."),
    "export": Lazy("apps.cli.export:export", "Turn checkpoints into artifacts that run here."),
    "quantize": Lazy("apps.cli.quantize:quantize", "Make an artifact smaller, by a recipe."),
    "mini": Lazy("apps.cli.mini:mini", "Train and examine the miniature duplex model."),
    "measure": Lazy("apps.cli.measure:measure", "What a smaller model does to sound, with a gate."),
    "sweep": Lazy("apps.cli.sweep:sweep", "Many recipes made and measured, resumable."),
    "codec": Lazy("apps.cli.codec:codec", "Sound to tokens and back, through a Mimi codec."),
    "plan": Lazy("apps.cli.plan:plan", "What fits into 80 ms on this machine."),
    "bench": Lazy("apps.cli.bench:bench", "Measure speed on this machine."),
    "licences": Lazy("apps.cli.licences:licences", "List the licences of what is installed."),
}


def _print_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        import importlib.metadata

        click.echo(f"edge {importlib.metadata.version(DISTRIBUTION)}")
        ctx.exit()


@click.group(
    cls=LazyGroup, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option("-v", "--verbose", is_flag=True, help="Say on stderr what is being done.")
@click.option("--debug", is_flag=True, help="Say more, and show tracebacks.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
    help="Show the version and exit.",
)  # fmt: skip
def edge(*, verbose: bool, debug: bool) -> None:
    """Run a voice assistant whole on this machine."""
    level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    logging.basicConfig(stream=sys.stderr, format="edge: %(levelname)s: %(message)s")
    for package in OWN_PACKAGES:  # other people's debug lines may hold what was said
        logging.getLogger(package).setLevel(level)


def main(argv: list[str] | None = None) -> None:
    """Run `edge` and exit: 0 fine, 1 not fine, 2 wrong use, 3 inconclusive, 130 interrupted.

    argv: arguments without the program's name; None takes those of the process.
    """
    for name, value in QUIET_ENV.items():
        os.environ.setdefault(name, value)
    end_as_interrupted()
    arguments = sys.argv[1:] if argv is None else argv
    sys.exit(run(arguments))


def run(arguments: list[str], group: click.Group = edge) -> int:
    """The exit code of a command line; every error has become one line on stderr."""
    try:
        result: Any = group.main(arguments, prog_name="edge", standalone_mode=False)
    except EdgeError as error:
        return _fail(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.ClickException as error:
        return _fail(_usage_line(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if "--debug" in arguments:
            raise
        return _fail(_internal_line(error), 1)
    return result if isinstance(result, int) else 0


def _usage_line(error: click.ClickException) -> str:
    """Click's message, and where the help is."""
    message = " ".join(error.format_message().split())
    ctx = getattr(error, "ctx", None)
    return f"{message} (see `{ctx.command_path} --help`)" if ctx else message


def _internal_line(error: Exception) -> str:
    """What to say about an error that nobody foresaw."""
    log.debug("unexpected error", exc_info=error)
    kind = f"{type(error).__name__}: {error}".splitlines()[0]
    package = (getattr(error, "name", None) or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and package not in {"", *OWN_PACKAGES}:
        return (
            f"the package {package} is not installed; "
            f"`pip install 'edgevoice[talk]'` brings what talking needs ({kind})"
        )
    return f"internal error ({kind}); run with `edge --debug ...` for the traceback"


def _fail(message: str, exit_code: int) -> int:
    click.echo(f"edge: error: {message}", err=True)
    return exit_code
