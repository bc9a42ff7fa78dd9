"""Another framework asked the same questions with the same models, in a process of its own.

It is never a dependency: the user names a Python that has it (`--peer-python`). Behind what that
Python has, it finds our packages and the model libraries of this one.
"""

from __future__ import annotations

import json
import re
import subprocess
import sysconfig
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from apps.bench.quantiles import quantiles
from apps.bench.talk import Asked
from edge.config import Config
from edge.errors import UsageError
from edge.store import ModelStore
from runtime.engines.assemble import CTX_MARGIN_TOKENS, chat_file
from runtime.engines.context import Conversation, messages
from runtime.engines.persona import default_context
from runtime.models.asr import Window

_SCRIPTS = {"pipecat": "pipecat_peer.py"}
PEERS = tuple(_SCRIPTS)
_BOOT = (
    "import runpy, sys; sys.path += sys.argv[2:]; sys.argv = sys.argv[1:2]; "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)


def run_peer(
    name: str,
    python: Path,
    config: Config,
    store: ModelStore,
    items: Sequence[Asked],
    told: Callable[[dict[str, Any]], None] | None = None,
    *,
    window: Window = "short",
) -> dict[str, Any]:
    """Ask a peer every question in real time, one conversation each.

    Returns quantiles of after_end_ms (from the question's real last sample to the first audible
    one, without what a sound card adds), counts of what went wrong, and every row. Raises
    UsageError where the peer cannot be run. window: what its recogniser is given; "full" is what
    frameworks usually give Whisper.
    """
    began = subprocess.Popen(
        [str(python), "-c", _BOOT, str(Path(__file__).with_name(_SCRIPTS[name])), *_folders()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with began as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        with suppress(BrokenPipeError):  # one that has ended already says why, below
            process.stdin.write(json.dumps({**_job(config, store, items), "window": window}))
            process.stdin.close()
        rows = []
        for item, line in zip(items, process.stdout, strict=False):
            rows.append(_row(item, json.loads(line)))
            if told:
                told(rows[-1])
        complaint = process.stderr.read().strip().splitlines()
    if process.returncode or len(rows) != len(items):
        why = complaint[-1] if complaint else f"exit code {process.returncode}"
        raise UsageError(f"{name} did not run under {python}: {why}")
    return {"window": window, **summary(rows)}


def _job(config: Config, store: ModelStore, items: Sequence[Asked]) -> dict[str, Any]:
    names = config.models
    opening = messages(Conversation(default_context(config.talk.prompt)), "")
    return {
        "asr": {name: str(path) for name, path in store.files(names.asr).items()},
        "llm": str(chat_file(config, store)),
        "tts": {name: str(path) for name, path in store.files(names.tts).items()},
        "n_ctx": config.context.budget_tokens + CTX_MARGIN_TOKENS,
        "opening": [dict(message) for message in opening],
        "questions": [[item.name, str(item.path)] for item in items],
    }


def _folders() -> list[str]:
    """Where our packages and this Python's libraries are."""
    paths = sysconfig.get_paths()
    ours = str(Path(__file__).resolve().parents[2])
    return list(dict.fromkeys([ours, paths["purelib"], paths["platlib"]]))


def _row(item: Asked, answer: dict[str, Any]) -> dict[str, Any]:
    first = answer["first_audible_s"]
    row = {**answer, "question": item.name}
    if first is not None and item.end_s is not None:
        row["after_end_ms"] = round((first - item.end_s) * 1e3, 1)
        # A reply that begins before the question has ended answered half of it.
        row["half_answered"] = first < item.end_s
    if item.fact:
        row["right"] = bool(re.search(item.fact, answer["reply"], re.IGNORECASE))
    row["turns"] = answer["user"].count(" | ") + bool(answer["user"])
    return row


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Quantiles over the questions that were answered after their end, and counts."""
    after = [r["after_end_ms"] for r in rows if r.get("after_end_ms", -1) >= 0]
    return {
        "questions": len(rows),
        "answered": sum(row["first_audible_s"] is not None for row in rows),
        "after_end_ms": quantiles(after),
        "half_answered": sum(bool(row.get("half_answered")) for row in rows),
        "in_several_turns": sum(row["turns"] > 1 for row in rows),
        "right": sum(bool(row.get("right")) for row in rows),
        "cpu_s": round(sum(row["cpu_s"] for row in rows), 1),
        "rows": list(rows),
    }
