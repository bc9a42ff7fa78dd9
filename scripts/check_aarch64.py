"""Show that the appliance installs from wheels on 64-bit ARM (`make aarch64`).

Asks this machine's own pip to resolve every pinned package of the `talk` extra for glibc 2.28 on
aarch64, as Raspberry Pi OS Bookworm and JetPack 6 have it (or newer), without building anything.
What has no wheel is named: it must be compiled there. Needs a package index; nothing is installed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

PINS = Path(__file__).resolve().parent.parent / "constraints" / "runtime.txt"
PLATFORMS = ("manylinux2014_aarch64", *(f"manylinux_2_{n}_aarch64" for n in range(17, 29)))
PYTHON = "3.11"
# Known to be source only: `scripts/build_llama.py` compiles it once, 5 to 30 minutes on a Pi.
COMPILED = ("llama-cpp-python",)


def has_wheel(pin: str, folder: Path) -> str | None:
    """The wheel's file name; None where there is none for that machine."""
    platforms = [word for each in PLATFORMS for word in ("--platform", each)]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp"),
            *platforms, "--platform", "any", "--dest", str(folder), pin,
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return None
    return max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns).name


def main() -> None:
    """A line for each package; exits 1 if something unexpected must be compiled."""
    pins = [line for line in PINS.read_text().splitlines() if line and not line.startswith("#")]
    compiled = []
    with tempfile.TemporaryDirectory() as folder:
        for pin in pins:
            wheel = has_wheel(pin, Path(folder))
            print(f"{pin:<32} {wheel or 'no wheel: must be compiled'}", flush=True)
            if wheel is None:
                compiled.append(pin.partition("==")[0])
    unexpected = [name for name in compiled if name not in COMPILED]
    print(f"{len(pins) - len(compiled)} of {len(pins)} from wheels; compiled: {compiled or 'none'}")
    sys.exit(1 if unexpected else 0)


if __name__ == "__main__":
    main()
