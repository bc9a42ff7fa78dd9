"""Fuzz every parser that reads from outside, for a time each: `make fuzz`, SECONDS=300 by default.

Random bytes, and real files with random damage. Whatever goes in, what comes out is a value or one
of our own errors: no crash, no other exception, no input that takes longer than a second, and no
growth of memory. Prints one JSON object; exits 1 where that is not so.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from apps.daemon.protocol import COMMANDS, parse_request
from edge.config import check_toml
from edge.errors import EdgeError
from edge.lock import read_lock
from edge.manifest import read_manifest
from edge.tokens import TokenReader
from edge.wav import open_audio
from runtime.trace import rss_mb

Target = Callable[[bytes, Path], object]
_LONGEST_S = 1.0
_MOST_GROWTH_MB = 64.0
_LONGEST_INPUT = 1 << 16


def control(data: bytes, _folder: Path) -> None:
    """A line of the control socket."""
    parse_request(data[:5000])


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
    """A token file."""
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


TARGETS: tuple[Target, ...] = (control, lock, config, manifest, tokens, wav)


def seeds(root: Path) -> dict[str, list[bytes]]:
    """Real inputs to damage."""
    from edge.config import settings

    toml = "\n".join(
        f"[{one.table}]\n{one.key} = {json.dumps(one.default)}" for one in settings().values()
    )
    wave = b"RIFF\x24\x08\0\0WAVEfmt \x10\0\0\0\1\0\1\0"
    wave += b"\xc0\x5d\0\0\x80\xbb\0\0\2\0\x10\0data\0\x08\0\0"
    manifests = [path.read_bytes() for path in list(root.rglob("manifest.toml"))[:2]]
    return {
        "control": [json.dumps({"do": do, "id": 1, "on": True}).encode() for do in COMMANDS],
        "lock": [(root / "models.lock").read_bytes()],
        "config": [toml.encode(), b'[talk]\nengine = "cascade"\nseed = 3\n'],
        "manifest": manifests or [b'kind = "x"\n'],
        "tokens": [token_file()],
        "wav": [wave + bytes(2048), (root / "apps/assets/question.flac").read_bytes()],
    }


def token_file() -> bytes:
    """A small whole one."""
    import numpy as np

    from edge.tokens import TokenHeader, TokenWriter

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tokens")
        with TokenWriter(path, TokenHeader(8, 2048, "0" * 64)) as writer:
            for _ in range(4):
                writer.write(np.arange(8, dtype=np.int64))
        return path.read_bytes()


def damage(rng: random.Random, seed: bytes) -> bytes:
    """A few bytes changed, cut, doubled or made up."""
    if rng.random() < 0.1:
        return rng.randbytes(rng.randrange(200))
    data = bytearray(seed)
    for _ in range(rng.randrange(1, 8)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(4)
        if kind == 0 and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == 1:
            del data[at : at + rng.randrange(1, 64)]
        elif kind == 2:
            data[at:at] = data[at : at + rng.randrange(1, 256)]
        else:
            data[at:at] = rng.choice((b"\0", b"\xff" * 8, b"9" * 20, b"[" * 50, b'"', b"\n", b"-1"))
    return bytes(data[:_LONGEST_INPUT])


def fuzz(target: Target, given: list[bytes], seconds: float, folder: Path) -> dict[str, object]:
    """Damage and read until the time is over."""
    rng = random.Random(0)
    faults: list[str] = []
    n_runs, n_read, slowest_s, before_mb = 0, 0, 0.0, 0.0
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s and len(faults) < 5:
        data = damage(rng, rng.choice(given))
        began_s = time.process_time()
        try:
            target(data, folder)
            n_read += 1
        except EdgeError:
            n_read += 0
        except Exception as error:  # noqa: BLE001  the very thing that is looked for
            faults.append(f"{type(error).__name__}: {error} on {data[:120]!r}")
        slowest_s = max(slowest_s, time.process_time() - began_s)
        n_runs += 1
        if n_runs == 500:
            before_mb = rss_mb()
    grown_mb = rss_mb() - before_mb if before_mb else 0.0
    return {
        "runs": n_runs, "accepted": n_read, "slowest_ms": round(slowest_s * 1000, 1),
        "grown_mb": round(grown_mb, 1), "faults": faults,
        "ok": not faults and slowest_s < _LONGEST_S and grown_mb < _MOST_GROWTH_MB,
    }  # fmt: skip


def main() -> None:
    """Fuzz every target for as many seconds as the command line says."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 300.0
    given = seeds(Path(__file__).resolve().parent.parent)
    with tempfile.TemporaryDirectory() as folder:
        found = {
            each.__name__: fuzz(each, given[each.__name__], seconds, Path(folder))
            for each in TARGETS
        }
    print(json.dumps(found, indent=1))
    sys.exit(0 if all(each["ok"] for each in found.values()) else 1)


if __name__ == "__main__":
    main()
