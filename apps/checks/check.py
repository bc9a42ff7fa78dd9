"""The result of one check, and how a check that itself goes wrong becomes a result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from edge.errors import EdgeError

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `edge doctor`.

    detail: what was found. remedy: what to do about it, empty where nothing is to be done.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """A check that can be run. slow: takes longer than a moment, left out by `--fast`."""

    name: str
    run: Callable[[], Check]
    slow: bool = False


def run_probe(probe: Probe) -> Check:
    """Run one check; what it raises is its result, so the checks after it still run."""
    try:
        return probe.run()
    except EdgeError as error:
        return Check(probe.name, "fail", str(error))
    except Exception as error:  # noqa: BLE001  whatever is broken here is what we are looking for
        kind = f"{type(error).__name__}: {error}".splitlines()[0]
        return Check(probe.name, "fail", kind, f"reinstall what `{probe.name}` needs")
