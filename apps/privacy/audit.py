"""The audit: what is enforced here, what was tried against it, and what is kept on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from apps.checks.check import Check
from apps.privacy.processes import Found, look_at
from apps.privacy.witness import Refusal, last_refusal
from edge.config import Loaded
from edge.errors import ModelError
from edge.history import History
from edge.lock import read_lock
from edge.paths import (
    cache_dir,
    config_dir,
    data_dir,
    prompt_cache_dir,
    runtime_dir,
    state_dir,
)
from edge.store import ModelStore

OPT_OUTS = (
    *("ORT_DISABLE_TELEMETRY", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"),
)
# What libraries that phone home leave in a home folder when nobody stops them.
_TRACES = (".cache/Microsoft", ".cache/huggingface", ".config/Microsoft", ".local/share/Microsoft")
_PROBE_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything the audit found; checks are its lines for people."""

    probe: Mapping[str, Any]
    processes: tuple[Found, ...]
    refused: Refusal | None
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Nothing fails; warnings leave it True."""
        return all(check.status != "fail" for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {
            "ok": self.ok,
            "probe": dict(self.probe),
            "processes": [asdict(each) for each in self.processes],
            "last_refused": asdict(self.refused) if self.refused else None,
            "checks": [asdict(check) for check in self.checks],
        }


def audit(loaded: Loaded, pids: tuple[int, ...] = ()) -> Audit:
    """Try the configured level in a child, then look at running processes and at the disk."""
    probe = run_probe(loaded.config.privacy.level)
    folders = (config_dir(), data_dir(), cache_dir(), state_dir(), runtime_dir())
    found = tuple(each for pid in pids if (each := look_at(pid, ours=folders)))
    refused = last_refusal()
    checks = [
        _level(loaded, probe),
        _leaks(probe),
        _names(probe),
        *(_process(each, loaded.config.privacy.level) for each in found),
        _opt_outs(os.environ),
        _traces(Path.home()),
        _models(loaded),
        _history(loaded),
        _prompts(),
        _refused(refused, recorded=bool(probe.get("recorded"))),
    ]
    return Audit(probe, found, refused, tuple(checks))


def run_probe(level: str) -> dict[str, Any]:
    """Seal a child process to a level and let it try to leak; what it reports."""
    command = [sys.executable, "-m", "apps.privacy.probe", level]
    if getattr(sys, "frozen", False):
        command = [sys.executable, "privacy", "probe", level]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False
        )
        return dict(json.loads(done.stdout))
    except (subprocess.TimeoutExpired, ValueError) as error:
        return {"level": level, "fault": f"the probe gave no answer ({error})", "leaks": {}}


def _level(loaded: Loaded, probe: Mapping[str, Any]) -> Check:
    level, origin = loaded.config.privacy.level, loaded.origins["privacy.level"]
    if level == "off":
        return Check("level", "warn", f"off ({origin})", "edge config set privacy.level sealed")
    if probe["fault"]:
        return Check("level", "fail", f"{level} ({origin}): {probe['fault']}")
    by = ", ".join(probe["mechanisms"])
    notes = f"; {'; '.join(probe['notes'])}" if probe["notes"] else ""
    return Check("level", "ok", f"{level} ({origin}), enforced by {by}{notes}")


def _leaks(probe: Mapping[str, Any]) -> Check:
    leaks = probe.get("leaks", {})
    escaped = [name for name, result in leaks.items() if result == "escaped"]
    if escaped:
        return Check("planted leaks", "fail", f"escaped: {', '.join(escaped)}", "report this")
    if not leaks:
        return Check("planted leaks", "warn", "not tried: nothing is enforced at this level")
    return Check("planted leaks", "ok", f"{len(leaks)} of {len(leaks)} refused")


def _names(probe: Mapping[str, Any]) -> Check:
    if reachable := probe.get("reachable"):
        detail = f"these can still be asked for names, or to start programs: {', '.join(reachable)}"
        return Check("name services", "warn", detail, "allow user namespaces, or use the unit")
    if probe["level"] == "off" or probe["fault"]:
        return Check("name services", "warn", "open")
    return Check("name services", "ok", "no resolver, nscd, D-Bus or service manager is reachable")


def _process(found: Found, level: str) -> Check:
    name = f"process {found.pid}"
    sockets = ", ".join(f"{n} {family}" for family, n in sorted(found.sockets.items())) or "none"
    listens = f"; listens on {', '.join(found.listening)}" if found.listening else ""
    held = "filter" if found.filtered else "no filter"
    held += ", own network" if found.own_network else ""
    detail = f"{found.program}: {held}; sockets: {sockets}{listens}"
    if found.written:
        return Check(name, "warn", f"{detail}; writes to {', '.join(found.written)}")
    if level == "sealed" and (not found.filtered or found.n_threads_outside):
        return Check(name, "fail", detail, "restart it: it runs unsealed")
    return Check(name, "ok", detail)


def _opt_outs(env: Mapping[str, str]) -> Check:
    missing = [name for name in OPT_OUTS if env.get(name) != "1"]
    if missing:
        return Check("opt-outs", "fail", f"not 1: {', '.join(missing)}", "unset them: edge sets 1")
    return Check("opt-outs", "ok", f"{', '.join(OPT_OUTS)} are 1")


def _traces(home: Path) -> Check:
    found = [str(home / name) for name in _TRACES if (home / name).exists()]
    if found:
        detail = f"left by other programs, or before edge set the opt-outs: {', '.join(found)}"
        return Check("files elsewhere", "warn", detail, "remove them and audit again")
    return Check("files elsewhere", "ok", "no telemetry identifiers in the home folder")


def _models(loaded: Loaded) -> Check:
    names = loaded.config.models
    store = ModelStore(read_lock())
    wrong = []
    wanted = (names.vad, names.turn, names.asr, names.llm, names.tts)
    for name in wanted:
        try:
            states = {str(state) for state in store.status(name).values()}
        except ModelError as error:
            states = {str(error)}
        if states != {"present"}:
            wrong.append(f"{name}: {', '.join(sorted(states))}")
    if wrong:
        return Check("models", "fail", "; ".join(wrong), "run: edge models verify")
    return Check("models", "ok", f"{len(wanted)} models have the sha256 of models.lock")


def _history(loaded: Loaded) -> Check:
    history = History.open(loaded.config)
    n_kept = sum(1 for _ in history.turns())
    kept = f"{n_kept} turns in {history.path}" if n_kept else "nothing is kept"
    if history.enabled:
        return Check("history", "ok", f"on, because you turned it on: {kept}")
    if n_kept:
        return Check("history", "warn", f"off, but {kept}", "edge history purge")
    return Check("history", "ok", f"off: {kept}")


def _prompts() -> Check:
    """Prompts may be personal, and a model's cache of one is the prompt in another form."""
    folder = prompt_cache_dir()
    found = list(folder.glob("*.state"))
    if not found:
        return Check("prompt cache", "ok", "empty")
    size_mb = sum(path.stat().st_size for path in found) / 1e6
    detail = f"{len(found)} prompts read by duplex models, {size_mb:.0f} MB in {folder}"
    return Check("prompt cache", "ok", detail, "edge history purge removes them")


def _refused(refused: Refusal | None, *, recorded: bool) -> Check:
    if refused is None:
        why = "nothing so far" if recorded else "not recorded on this system"
        return Check("last refused", "ok", why)
    said = f"{refused.what} by {refused.program} (pid {refused.pid}) at {refused.at}"
    return Check("last refused", "ok", f"{said}, {refused.n_so_far} in that run")
