"""Fuzz every parser that reads from outside, for a time each: `make fuzz`, SECONDS=300 by default.

    python -m scripts.fuzz [SECONDS] [--out FILE] [--only NAME]

Whatever goes in (fuzz_inputs.py), what comes out is a value or one of our own errors: no crash, no
other exception, no input that takes longer than a second, no growth of memory. Each parser has a
process of its own, so that a crash in a library is seen. Prints JSON; exits 1 where that is not so.
With --out, each is written down once it is done, beside those that FILE has of another run.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hypothesis import HealthCheck, Phase, given, seed, settings

from apps.daemon.protocol import Request, parse_request
from apps.daemon.server import ControlServer
from apps.daemon.start import bind
from edge.atomic import write_text
from edge.config import check_toml
from edge.errors import EdgeError
from edge.lock import read_lock
from edge.manifest import read_manifest
from edge.tokens import TokenReader
from edge.wav import open_audio
from runtime.models.state_file import read_arrays
from runtime.trace import rss_mb
from scripts.fuzz_inputs import INPUTS, Bytes, mutations

_LONGEST_S = 1.0
_MOST_GROWTH_MB = 32.0
_ROUND = 50  # inputs of hypothesis between two looks at the memory
_RELATIVES = 15  # that each of them has
_WARM_ROUNDS = 2
_ENDLESS_S = 10.0
_GRACE_S = 900.0  # a busy machine is no hang


class Target(Protocol):
    """Reads an input, by a file in the folder if it reads files."""

    __name__: str

    def __call__(self, data: bytes, folder: Path, /) -> object: ...


def control(data: bytes, _folder: Path) -> None:
    """A line of the control socket."""
    parse_request(data[:5000])


def server(data: bytes, folder: Path) -> None:
    """The control socket itself: whatever one client sends, the next is answered."""
    path = folder / "s"
    listening = ControlServer(bind(path), answer)
    listening.start()
    try:
        with socket.socket(socket.AF_UNIX) as bad:
            bad.connect(str(path))
            bad.sendall(data)
        with socket.socket(socket.AF_UNIX) as good:
            good.settimeout(30)
            good.connect(str(path))
            good.sendall(b'{"do": "status"}\n')
            said = good.recv(1000)
        assert said == b'{"ok": true, "state": "idle"}\n', said
    finally:
        listening.close()


def answer(_request: Request) -> dict[str, str]:
    """A daemon that does nothing."""
    return {"state": "idle"}


def lock(data: bytes, folder: Path) -> None:
    """models.lock."""
    path = folder / "models.lock"
    path.write_bytes(data)
    read_lock(path)


def config(data: bytes, _folder: Path) -> None:
    """config.toml."""
    check_toml(data.decode("utf-8", "replace"), "fuzz")


def manifest(data: bytes, folder: Path) -> None:
    """An artifact's manifest.toml."""
    (folder / "manifest.toml").write_bytes(data)
    read_manifest(folder)


def tokens(data: bytes, folder: Path) -> None:
    """A token file, read to its end."""
    path = folder / "tokens"
    path.write_bytes(data)
    for _ in TokenReader(path):
        continue


def wav(data: bytes, folder: Path) -> None:
    """A sound file, read to its end."""
    path = folder / "sound.wav"
    path.write_bytes(data)
    with open_audio(path) as reader:
        for _ in reader:
            continue


def state(data: bytes, folder: Path) -> None:
    """A saved state."""
    path = folder / "state"
    path.write_bytes(data)
    read_arrays(path, "state", "m")


TARGETS: Mapping[str, Target] = {
    each.__name__: each for each in (control, server, lock, config, manifest, tokens, wav, state)
}


@dataclass(slots=True)
class Found:
    """What came of one parser. accepted, refused: inputs. slow: those that took a second."""

    runs: int = 0
    accepted: int = 0
    refused: int = 0
    crashes: int = 0
    hangs: int = 0
    slowest_ms: float = 0.0
    memory_mb: float = 0.0
    grown_mb: float = 0.0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Nothing was found."""
        calm = not self.crashes and not self.hangs and not self.faults
        return calm and self.grown_mb < _MOST_GROWTH_MB


def fuzz(
    target: Target,
    inputs: Bytes,
    seconds: float,
    folder: Path,
    *,
    most_faults: int = 5,
    most_runs: float = math.inf,
) -> Found:
    """Feed a parser until the time is over; memory is compared with what it was when warm."""
    found = Found()
    signal.signal(signal.SIGPROF, _endless)
    began_s = time.monotonic()
    n_rounds = 0
    while (
        time.monotonic() - began_s < seconds
        and len(found.faults) < most_faults
        and found.runs < most_runs
    ):
        try:
            _round(target, inputs, folder, found, n_rounds, began_s + seconds)
        except Exception as error:  # noqa: BLE001  the very thing that is looked for
            notes = " ".join(getattr(error, "__notes__", ()))
            found.faults.append(f"{type(error).__name__}: {error} {notes}"[:800])
            found.crashes += 1
        gc.collect()
        n_rounds += 1
        if n_rounds <= _WARM_ROUNDS:
            found.memory_mb = round(rss_mb(), 1)
    found.grown_mb = round(rss_mb() - found.memory_mb, 1)
    found.seconds = round(time.monotonic() - began_s, 1)
    return found


def _round(
    target: Target, inputs: Bytes, folder: Path, found: Found, number: int, end_s: float
) -> None:
    """Some hundred inputs; the first that fails is raised."""

    @seed(number)
    @settings(
        max_examples=_ROUND,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs)
    def feed(data: bytes) -> None:
        for each in (data, *mutations(data, target.__name__, _RELATIVES)):
            if time.monotonic() > end_s:
                return
            _feed(target, each, folder, found)

    feed()


def _feed(target: Target, data: bytes, folder: Path, found: Found) -> None:
    """One input."""
    began_s = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, _ENDLESS_S)  # of this process's own time
    try:
        target(data, folder)
        found.accepted += 1
    except EdgeError:
        found.refused += 1
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    spent_s = time.process_time() - began_s
    found.runs += 1
    found.slowest_ms = max(found.slowest_ms, round(spent_s * 1000, 1))
    if spent_s > _LONGEST_S:
        found.hangs += 1
        found.faults.append(f"{spent_s:.1f} s on {data[:200]!r}")


def _endless(*_: object) -> None:
    raise TimeoutError(f"it goes on for more than {_ENDLESS_S:g} s")


def in_a_child(name: str, seconds: float) -> dict[str, Any]:
    """Fuzz one parser in a process of its own; a crash or a hang of it is a finding, too."""
    command = [sys.executable, "-m", "scripts.fuzz", str(seconds), "--child", name]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + _GRACE_S, check=False
        )
        facts = dict(json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        facts = asdict(Found(hangs=1, faults=["it never came back"]))
        return {"ok": False, **facts}
    except ValueError:
        how = signal.Signals(-done.returncode).name if done.returncode < 0 else done.returncode
        said = done.stderr.strip().splitlines()[-1:] or [""]
        facts = asdict(Found(crashes=1, faults=[f"ended by {how} {said[0]}"]))
        return {"ok": False, **facts}
    return facts


def main() -> None:
    """Fuzz every parser for as many seconds as the command line says."""
    asked = argparse.ArgumentParser()
    asked.add_argument("seconds", type=float, nargs="?", default=300.0)
    asked.add_argument("--out", type=Path)
    asked.add_argument("--only", choices=list(TARGETS), action="append")
    asked.add_argument("--child", choices=list(TARGETS))
    given_words = asked.parse_args()
    if given_words.child:
        name = given_words.child
        with tempfile.TemporaryDirectory() as folder:
            found = fuzz(TARGETS[name], INPUTS[name](), given_words.seconds, Path(folder))
        print(json.dumps({"ok": found.ok, **asdict(found)}))
        return
    parsers: dict[str, dict[str, Any]] = {}
    for name in given_words.only or TARGETS:
        parsers[name] = in_a_child(name, given_words.seconds)
        print(f"{name}: {parsers[name]}", file=sys.stderr)
        if given_words.out:
            add_to(given_words.out, {name: parsers[name]})
    report = summary(parsers)
    print(json.dumps(report, indent=1))
    sys.exit(0 if report["ok"] else 1)


def summary(parsers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What came of all of them."""
    return {"ok": all(each["ok"] for each in parsers.values()), "parsers": dict(parsers)}


def add_to(path: Path, parsers: Mapping[str, Mapping[str, Any]]) -> None:
    """Write findings into a report; those of other parsers that it has stay."""
    before = json.loads(path.read_text(encoding="utf-8"))["parsers"] if path.exists() else {}
    found = {**before, **parsers}
    in_order = {name: found[name] for name in TARGETS if name in found}
    write_text(path, json.dumps(summary(in_order), indent=1) + "\n")


if __name__ == "__main__":
    main()
