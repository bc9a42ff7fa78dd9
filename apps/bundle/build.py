"""Build the bundle, measure it, test it: `python -m apps.bundle.build` (`make bundle`).

The test runs the bundle's own `--self-test` with HOME empty, PATH bare and, where the system allows
it, in a network namespace with nothing in it. Exits 1 where a limit is passed or the test fails.
"""

from __future__ import annotations

import json
import lzma
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from apps.bundle.contents import gpl_binaries, gpl_packages, licence_files
from edge.atomic import atomic_path
from edge.errors import EdgeError
from runtime.cores import available_cores

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
FOLDER = DIST / "edgevoice"
ARCHIVE = DIST / "edgevoice.tar.xz"
EXTRAS = ("talk", "tray")
_PRESET = 3
MOST_UNPACKED_MB, MOST_COMPRESSED_MB = 650, 350


def build() -> None:
    """Run PyInstaller and add the licences."""
    spec = Path(__file__).with_name("edgevoice.spec")
    subprocess.run(
        [
            *(sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "WARN"),
            *("--distpath", str(DIST), "--workpath", str(ROOT / "build"), str(spec)),
        ],
        check=True, cwd=ROOT,
    )  # fmt: skip
    for package, path in licence_files(EXTRAS):
        place = FOLDER / "licences" / package
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place / path.name)
    for name in ("LICENSE", "LICENCES.md"):
        shutil.copy(ROOT / name, FOLDER / name)


def strip_symbols() -> None:
    """Take the debugger's symbols out of the two libraries that have most of them: 80 MB."""
    strip = shutil.which("strip")
    for pattern in ("ctranslate2/_ext*.so", "libpython3*.so*"):
        for path in FOLDER.glob(f"_internal/{pattern}"):
            if strip:
                subprocess.run([strip, str(path)], check=True)


def unpacked_mb() -> float:
    """The folder's size, each file once."""
    return sum(map(_size, FOLDER.rglob("*"))) / 1e6


def compressed_mb(folder: Path = FOLDER, whole: Path = ARCHIVE) -> float:
    """Write the archive, saying how far it is, and give its size; it is whole or not there."""
    paths = sorted(folder.rglob("*"))
    n_bytes, done, tenths = sum(map(_size, paths)), 0, 0
    with (
        atomic_path(whole) as part,
        _compressor(part) as stream,
        tarfile.open(fileobj=stream, mode="w|") as archive,
    ):
        for path in paths:
            archive.add(path, f"edgevoice/{path.relative_to(folder)}", recursive=False)
            done += _size(path)
            if done * 10 // n_bytes > tenths:
                tenths = done * 10 // n_bytes
                _say(f"compressed {tenths * 10} %")
    return whole.stat().st_size / 1e6


@contextmanager
def _compressor(path: Path) -> Iterator[IO[bytes]]:
    """A stream into an .xz file: the xz program on all cores, else Python's own on one.

    Much of the bundle is weights, which hardly become smaller: a higher preset costs minutes.
    """
    if (xz := shutil.which("xz")) is None:
        with lzma.open(path, "wb", preset=_PRESET) as stream:
            yield stream
        return
    command = [xz, f"-{_PRESET}", f"--threads={available_cores()}", "--stdout"]
    with path.open("wb") as out:
        running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out)
        assert running.stdin is not None
        with running.stdin as stream:
            yield stream
        if running.wait():
            raise EdgeError(f"xz ended with {running.returncode}; is the disk full?")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() and not path.is_symlink() else 0


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def self_test() -> dict[str, Any]:
    """What the bundle says of itself, alone in the world."""
    with tempfile.TemporaryDirectory() as home:
        env = {"HOME": home, "PATH": "/nonexistent", "LANG": "C.UTF-8"}
        command = [str(FOLDER / "edge"), "--self-test"]
        unshare = shutil.which("unshare")
        alone = [unshare, "-n"] if unshare else []
        if alone and subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
            alone = []
        done = subprocess.run(
            [*alone, *command], env=env, capture_output=True, text=True, check=False, timeout=300
        )
        left = [str(path.relative_to(home)) for path in Path(home).rglob("*")]
    try:
        found = json.loads(done.stdout)
    except ValueError:
        found = {"ok": False, "turns": [], "said": done.stderr[-2000:]}
    return {**found, "empty_network": bool(alone), "left_in_home": left}


def main() -> None:
    """Build, and print one JSON object."""
    began_s = time.monotonic()
    _say("building")
    build()
    strip_symbols()
    built_s = time.monotonic()
    found: dict[str, Any] = {
        "unpacked_mb": round(unpacked_mb(), 1),
        "gpl": [*gpl_binaries(FOLDER), *gpl_packages(EXTRAS)],
    }
    _say(f"built in {built_s - began_s:.0f} s, {found['unpacked_mb']} MB; testing it")
    found["self_test"] = self_test()
    tested_s = time.monotonic()
    found["compressed_mb"] = round(compressed_mb(), 1)
    found["took_s"] = {
        "build": round(built_s - began_s),
        "self_test": round(tested_s - built_s),
        "compress": round(time.monotonic() - tested_s),
    }
    found["ok"] = bool(
        found["self_test"]["ok"]
        and not found["gpl"]
        and found["unpacked_mb"] <= MOST_UNPACKED_MB
        and found["compressed_mb"] <= MOST_COMPRESSED_MB
    )
    print(json.dumps(found, indent=1))
    sys.exit(0 if found["ok"] else 1)


if __name__ == "__main__":
    main()
