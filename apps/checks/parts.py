"""The libraries: extras, llama.cpp on a real prompt, onnxruntime and its telemetry."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from apps.checks.check import Check
from apps.checks.child import ChildResult, run_module
from apps.packages import closure
from edge.config import load_config
from edge.errors import ModelError
from edge.lock import read_lock
from edge.store import ModelStore

NEEDED_EXTRA = "talk"
OPTIONAL_EXTRAS = ("export", "quant")
REBUILD = (
    "rebuild it for this processor: in the checkout run .venv/bin/python scripts/build_llama.py"
)


def extras(missing: Mapping[str, Sequence[str]]) -> Check:
    """Which extras are whole. missing: for each extra the packages that are not installed."""
    whole = [extra for extra, packages in missing.items() if not packages]
    if packages := missing[NEEDED_EXTRA]:
        detail = f"{NEEDED_EXTRA} lacks {', '.join(packages)}"
        return Check("extras", "fail", detail, f"run: pip install 'edgevoice[{NEEDED_EXTRA}]'")
    absent = [extra for extra in missing if extra not in whole]
    tail = f"; not installed: {', '.join(absent)}" if absent else ""
    return Check("extras", "ok", f"installed: {', '.join(whole)}{tail}")


def llama(result: ChildResult, *, has_model: bool) -> Check:
    """What a child process found. has_model: whether it had a language model to run."""
    if result.fault:
        return Check("llama.cpp", "fail", result.fault, REBUILD if result.crashed else "")
    if not has_model:
        detail = "loads; no language model on this machine to try it with"
        return Check("llama.cpp", "warn", detail, "run: edge models fetch, then edge doctor again")
    facts = result.facts
    detail = (
        f"a prompt of {facts['n_prompt_tokens']} tokens at {facts['read_tokens_per_s']} tokens/s, "
        f"then {facts['write_tokens_per_s']} tokens/s, on one core"
    )
    return Check("llama.cpp", "ok", detail)


def onnxruntime(version: str, providers: Collection[str]) -> Check:
    """Which execution providers there are, fastest first."""
    names = [name.removesuffix("ExecutionProvider") for name in providers]
    detail = f"{version}: {', '.join(names)}"
    if "CPU" not in names:
        remedy = "reinstall it: pip install --force-reinstall onnxruntime"
        return Check("onnxruntime", "fail", detail, remedy)
    return Check("onnxruntime", "ok", detail)


def telemetry(env: Mapping[str, str]) -> Check:
    """Whether onnxruntime was told not to report home; from 1.29 on it does so by default."""
    value = env.get("ORT_DISABLE_TELEMETRY")
    if value == "1":
        return Check("telemetry", "ok", "onnxruntime's is off (ORT_DISABLE_TELEMETRY=1)")
    remedy = "unset ORT_DISABLE_TELEMETRY, so that edge can set it to 1"
    return Check("telemetry", "fail", f"ORT_DISABLE_TELEMETRY is {value!r}", remedy)


def check_extras() -> Check:
    """The extras that are installed here."""
    names = (NEEDED_EXTRA, *OPTIONAL_EXTRAS)
    return extras({name: closure([name]).missing for name in names})


def check_llama() -> Check:
    """llama.cpp with the configured language model, in a child process."""
    names = load_config().config.models
    vad, llm = model_file(names.vad), model_file(names.llm, ".gguf")
    arguments = [
        word
        for flag, path in (("--vad", vad), ("--llm", llm))
        if path is not None
        for word in (flag, str(path))
    ]
    return llama(run_module("apps.checks.llama_child", *arguments), has_model=llm is not None)


def model_file(name: str, suffix: str = "") -> Path | None:
    """A model's first file with this suffix, hash checked; None if it is not here or damaged."""
    try:
        files = ModelStore(read_lock()).files(name)
    except ModelError:
        return None
    return next((path for relative, path in files.items() if relative.endswith(suffix)), None)


def check_onnxruntime() -> Check:
    """The onnxruntime that is installed here."""
    from runtime.backends.ort import available_providers, load_onnxruntime

    return onnxruntime(load_onnxruntime().__version__, available_providers())


def check_telemetry() -> Check:
    """The environment of this process."""
    return telemetry(os.environ)
