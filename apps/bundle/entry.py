"""What the bundle's programs start with: `edge`, `edge-desktop`, and their own child processes.

`--self-test` asks the bundled question and wants the right answer. `-m MODULE` runs one of our own
modules as Python would, because children are started that way.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import sys
from pathlib import Path

import apps
from apps.cli.main import OWN_PACKAGES, QUIET_ENV, run
from apps.cli.start import main

_DESKTOP = "edge-desktop"


def self_test() -> int:
    """A spoken question through the starter models inside the bundle; 0 if it is answered."""
    question = Path(apps.__file__).resolve().parent / "assets" / "question.flac"
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = run(["talk", "--input", str(question), "--clock", "fast", "--json"])
    turns = json.loads(said.getvalue())["turns"] if code == 0 else []
    right = bool(turns) and "paris" in turns[0]["reply"].lower()
    print(json.dumps({"ok": right, "turns": turns}))
    return 0 if right else 1


def start(words: list[str]) -> None:
    """Run what the command line asks for, and exit."""
    for name, value in QUIET_ENV.items():
        os.environ.setdefault(name, value)
    if words[:1] == ["--self-test"]:
        sys.exit(self_test())
    if words[:1] == ["-m"] and words[1].partition(".")[0] in OWN_PACKAGES:
        module, sys.argv[1:] = words[1], words[2:]
        if module == "apps.cli":
            main(words[2:])
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return
    if not words and Path(sys.argv[0]).stem == _DESKTOP:
        words = ["tray", "--start"]
    main(words)


if __name__ == "__main__":
    start(sys.argv[1:])
