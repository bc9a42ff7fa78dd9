"""`edge devices`: which microphones and speakers there are, by the names that settings use."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import click

from apps.cli.options import json_option
from runtime.sound.device_info import DeviceInfo, default_device
from runtime.sound.devices import list_devices


@click.command()
@json_option
def devices(as_json: bool) -> None:
    """List microphones and speakers.

    Any name here, or a part of it that no other device has, can be given to `edge talk` as
    --microphone or --speaker.
    """
    report(list_devices(), as_json=as_json)


def report(found: Sequence[DeviceInfo], *, as_json: bool) -> None:
    """Print what was found. Raises DeviceError after that if this machine cannot hear or speak."""
    if as_json:
        click.echo(json.dumps({"devices": [dataclasses.asdict(device) for device in found]}))
    elif found:
        _print_table(found)
    default_device(found, "input")
    default_device(found, "output")


def _print_table(found: Sequence[DeviceInfo]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("name", "through", "microphone", "speaker", "Hz"):
        table.add_column(heading, justify="right" if heading == "Hz" else "left")
    for device in found:
        table.add_row(
            Text(device.name),  # as it is: brackets in a name are no markup
            device.host_api,
            _use(device.n_inputs, is_default=device.is_default_input),
            _use(device.n_outputs, is_default=device.is_default_output),
            str(device.default_rate_hz),
        )
    Console().print(table)


def _use(n_channels: int, *, is_default: bool) -> str:
    """Say how it can be used in one direction: nothing, its channels, whether it is the default."""
    if not n_channels:
        return ""
    channels = f"{n_channels} channel{'s' if n_channels > 1 else ''}"
    return f"{channels} (default)" if is_default else channels
