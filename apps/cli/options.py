"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Mapping

import click

json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object on standard output."
)

untrained_option = click.option(
    "--untrained", is_flag=True, help="Say that the weights were never trained."
)

privacy_option = click.option(
    "--privacy",
    type=click.Choice(["sealed", "loopback", "off"]),
    help="What may leave this machine; the kernel enforces it.  [default: sealed]",
)

# A command's option -> the configuration key that it overrides.
_KEYS = {
    "engine": "talk.engine",
    "model": "talk.model",
    "voice": "talk.voice",
    "prompt": "talk.prompt",
    "seed": "talk.seed",
    "microphone": "audio.input",
    "speaker": "audio.output",
    "history": "history.enabled",
    "cores": "cpu.cores",
    "privacy": "privacy.level",
}


def overrides(flags: Mapping[str, object]) -> dict[str, object]:
    """The configuration keys that were given as options; what was not given is left out."""
    return {_KEYS[name]: value for name, value in flags.items() if value is not None}
