"""Write constraints/*.txt from what is installed in this Python (`make pins`).

runtime.txt holds what the `talk` extra brings, all.txt what every extra brings. Names and versions
only: where packages come from is the business of the user's own pip.
"""

from __future__ import annotations

import sys
from pathlib import Path

from packaging.utils import canonicalize_name

from apps.packages import closure

FOLDER = Path(__file__).resolve().parent.parent / "constraints"
FILES = {
    "runtime.txt": (
        ("talk",),
        "What `pip install 'edgevoice[talk]'` brings: the lean runtime, which never has torch.",
    ),
    "all.txt": (
        ("talk", "export", "quant", "quality", "plots", "tray", "cluster", "dev"),
        "What all extras bring. torch may be any build of this version, one for the CPU too.",
    ),
}


def main() -> None:
    """Write both files; exits with a sentence where something is not installed."""
    for name, (extras, comment) in FILES.items():
        found = closure(extras)
        if found.missing:
            sys.exit(f"pin: not installed: {', '.join(found.missing)}; run `make test` first")
        pins = [
            f"{canonicalize_name(each.metadata['Name'])}=={each.version.partition('+')[0]}"
            for each in found.installed
        ]
        text = "\n".join([f"# {comment} Written by `make pins`.", *pins]) + "\n"
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"constraints/{name}: {len(pins)} packages")


if __name__ == "__main__":
    main()
