"""Run a module in a child process: a crash there is a fact here, not the end of the program."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from edge.errors import EdgeError


@dataclass(frozen=True, slots=True)
class ChildResult:
    """How a child ended.

    facts: its last line as JSON. fault: why it failed, else empty; where `crashed` is False it is
    an error's own sentence, which says what to do.
    """

    facts: Mapping[str, object] = field(default_factory=dict)
    fault: str = ""
    crashed: bool = False


def run_module(module: str, *arguments: str, timeout_s: float = 60.0) -> ChildResult:
    """Run `python -m module arguments` and read the JSON object on its last line of output."""
    command = [sys.executable, "-m", module, *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return ChildResult(fault=f"no answer within {timeout_s:g} s", crashed=True)
    if done.returncode < 0:
        return ChildResult(fault=f"killed by {signal_name(-done.returncode)}", crashed=True)
    return parse(done.stdout, done.stderr, done.returncode)


def parse(stdout: str, stderr: str, returncode: int) -> ChildResult:
    """Read what a child said: an object of facts, or {"error": ...}; anything else is a fault."""
    lines = stdout.strip().splitlines()
    try:
        facts = json.loads(lines[-1]) if lines else None
    except ValueError:
        facts = None
    if not isinstance(facts, dict) or returncode != 0:
        said = (stderr.strip().splitlines() or ["nothing"])[-1]
        return ChildResult(fault=f"exit code {returncode}, and it said: {said}", crashed=True)
    if "error" in facts:
        return ChildResult(fault=str(facts["error"]))
    return ChildResult(facts)


def signal_name(number: int) -> str:
    """SIGSEGV and the like, or the number where this system has no name for it."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def answer(facts: Mapping[str, object] | EdgeError) -> None:
    """Print a child's answer, for its parent's `run_module`."""
    found = {"error": str(facts)} if isinstance(facts, EdgeError) else dict(facts)
    print(json.dumps(found), flush=True)
