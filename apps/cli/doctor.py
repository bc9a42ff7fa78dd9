"""`edge doctor`: a line for each thing that talking needs, and what to do about what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict

import click

from apps.checks.check import Check, Probe, run_probe
from apps.cli.options import json_option

_COLOUR = {"ok": "green", "warn": "yellow", "fail": "red"}
_NAME_WIDTH = 26


def probes(*, fast: bool) -> list[Probe]:
    """Every check in the order of a person's questions; fast leaves out those that take time."""
    from apps.checks import accelerators, machine, models, parts, sound

    all_probes = [
        Probe("python", machine.check_python),
        Probe("processor", machine.check_processor),
        Probe("cores", machine.check_cores),
        Probe("bandwidth", machine.check_bandwidth, slow=True),
        Probe("memory", machine.check_memory),
        Probe("disk", machine.check_disk),
        Probe("extras", parts.check_extras),
        Probe("telemetry", parts.check_telemetry),
        Probe("onnxruntime", parts.check_onnxruntime),
        Probe("gpu, llama.cpp", accelerators.check_llama_devices),
        Probe("gpu, onnxruntime", accelerators.check_onnx_devices),
        *models.model_probes(hashed=not fast),
        Probe("llama.cpp", parts.check_llama, slow=True),
        Probe("portaudio", sound.check_portaudio),
        Probe("devices", sound.check_devices),
        Probe("microphone", sound.check_microphone, slow=True),
    ]
    return [probe for probe in all_probes if not (fast and probe.slow)]


def line(check: Check) -> str:
    """One line for people: status, name, what was found and what to do."""
    status = click.style(f"{check.status:<5}", fg=_COLOUR[check.status])
    remedy = f" -> {check.remedy}" if check.remedy else ""
    return f"{status} {check.name:<{_NAME_WIDTH}} {check.detail}{remedy}"


def report(checks: Iterable[Check]) -> dict[str, object]:
    """The JSON object: `ok` is False where a check fails; warnings leave it True."""
    listed = list(checks)
    return {
        "ok": all(check.status != "fail" for check in listed),
        "checks": [asdict(check) for check in listed],
    }


@click.command()
@click.option("--fast", is_flag=True, help="Leave out what takes longer than a moment.")
@json_option
@click.pass_context
def doctor(ctx: click.Context, *, fast: bool, as_json: bool) -> None:
    """Check this machine; exit code 1 if something that talking needs fails."""
    checks: list[Check] = []
    for probe in probes(fast=fast):
        checks.append(run_probe(probe))
        if not as_json:
            click.echo(line(checks[-1]))
    found = report(checks)
    if as_json:
        click.echo(json.dumps(found))
    if not found["ok"]:
        ctx.exit(1)
