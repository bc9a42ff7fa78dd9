"""Build the bundle, measure it, test it: `python -m apps.bundle.build` (`make bundle`).

The test runs the bundle's own `--self-test` with HOME empty, PATH bare and, where the system allows
it, in a network namespace with nothing in it. Exits 1 where a limit is passed or the test fails.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from apps.bundle.contents import gpl_binaries, gpl_packages, licence_files

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
FOLDER = DIST / "edgevoice"
ARCHIVE = DIST / "edgevoice.tar.xz"
EXTRAS = ("talk", "tray")
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
    return (
        sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file() and not p.is_symlink()) / 1e6
    )


def compressed_mb() -> float:
    """Write the archive and give its size."""
    with tarfile.open(ARCHIVE, "w:xz", preset=3) as archive:
        archive.add(FOLDER, "edgevoice")
    return ARCHIVE.stat().st_size / 1e6


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
    build()
    strip_symbols()
    found: dict[str, Any] = {
        "unpacked_mb": round(unpacked_mb(), 1),
        "gpl": [*gpl_binaries(FOLDER), *gpl_packages(EXTRAS)],
        "self_test": self_test(),
        "compressed_mb": round(compressed_mb(), 1),
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
