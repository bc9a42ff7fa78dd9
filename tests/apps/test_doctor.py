"""The doctor's checks: what each makes of the facts, and that none of them can stop the others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from apps.checks import machine, models, parts, sound
from apps.checks.check import Check, Probe, run_probe
from apps.checks.child import ChildResult, run_module
from apps.cli.doctor import line, probes, report
from apps.cli.main import run
from edge.errors import DeviceError
from edge.lock import LockFile
from edge.store import FileCheck
from runtime.sound.device_info import DeviceInfo

AVX2 = frozenset({"avx2", "fma", "f16c"})
GGUF = LockFile("tiny.gguf", "0" * 64, 8)
CARD = DeviceInfo("Card", "ALSA", 1, 2, 48_000, is_default_input=True, is_default_output=True)
LLAMA_FACTS = {"n_prompt_tokens": 18, "read_tokens_per_s": 90.0, "write_tokens_per_s": 40.0}
HEARD = {"name": "Card", "n_samples": 24_000, "peak": 0.1}


@pytest.mark.parametrize(
    ("check", "status"),
    [
        (machine.python_version((3, 11, 0)), "ok"),
        (machine.python_version((3, 10, 14)), "fail"),
        (machine.python_version((4, 0, 0)), "ok"),
        (machine.processor("x86_64", AVX2), "ok"),
        (machine.processor("x86_64", AVX2 | {"amx_tile"}), "ok"),
        (machine.processor("x86_64", frozenset({"sse4_2"})), "warn"),
        (machine.processor("aarch64", frozenset({"asimddp"})), "ok"),
        (machine.processor("aarch64", frozenset({"asimd"})), "warn"),
        (machine.processor("arm64", frozenset()), "ok"),
        (machine.cores(2, 8), "ok"),
        (machine.cores(1, 8), "warn"),
        (machine.bandwidth(20.0, 2), "ok"),
        (machine.bandwidth(2.0, 2), "warn"),
        (machine.memory(8_000_000_000), "ok"),
        (machine.memory(500_000_000), "warn"),
        (machine.memory(None), "ok"),
        (machine.disk(10_000_000_000, Path("d")), "ok"),
        (machine.disk(10_000_000, Path("d")), "warn"),
        (parts.extras({"talk": [], "export": ["torch"]}), "ok"),
        (parts.extras({"talk": ["soxr"], "export": []}), "fail"),
        (parts.llama(ChildResult(LLAMA_FACTS), has_model=True), "ok"),
        (parts.llama(ChildResult(), has_model=False), "warn"),
        (parts.llama(ChildResult(fault="killed by SIGILL", crashed=True), has_model=True), "fail"),
        (parts.onnxruntime("1.31", ["CUDAExecutionProvider", "CPUExecutionProvider"]), "ok"),
        (parts.onnxruntime("1.31", ["AzureExecutionProvider"]), "fail"),
        (parts.telemetry({"ORT_DISABLE_TELEMETRY": "1"}), "ok"),
        (parts.telemetry({"ORT_DISABLE_TELEMETRY": "0"}), "fail"),
        (parts.telemetry({}), "fail"),
        (sound.portaudio(ChildResult({"devices": []})), "ok"),
        (sound.portaudio(ChildResult(fault="no PortAudio; sudo apt install it")), "fail"),
        (sound.devices([CARD]), "ok"),
        (sound.devices([replace(CARD, n_inputs=0)]), "warn"),
        (sound.devices([]), "warn"),
        (sound.microphone(ChildResult(HEARD)), "ok"),
        (sound.microphone(ChildResult({**HEARD, "peak": 1e-6})), "ok"),
        (sound.microphone(ChildResult({**HEARD, "peak": 0.0})), "fail"),
        (sound.microphone(ChildResult({**HEARD, "n_samples": 0, "peak": 0.0})), "fail"),
        (models.model("m", 8, [FileCheck(GGUF, "present")], hashed=True), "ok"),
        (models.model("m", 8, [FileCheck(GGUF, "missing")], hashed=True), "fail"),
        (models.model("m", 8, [FileCheck(GGUF, "damaged", fault="short")], hashed=True), "fail"),
    ],
)
def test_a_check_says_what_is_so_and_what_to_do(check: Check, status: str) -> None:
    assert check.status == status
    assert check.detail
    assert "\n" not in line(check)
    # The way out of an error stands in its own sentence; every other failure names one.
    assert (check.status == "ok") == (not check.remedy)


def test_a_missing_or_damaged_model_is_named_with_the_command_that_brings_it() -> None:
    present = FileCheck(replace(GGUF, path="other.bin"), "present")
    for state in (FileCheck(GGUF, "missing"), FileCheck(GGUF, "damaged", fault="short")):
        check = models.model("talker", 8, [present, state], hashed=True)
        assert check.remedy == "run: edge models fetch talker"
    assert (
        "tiny.gguf" in models.model("talker", 8, [FileCheck(GGUF, "missing")], hashed=True).detail
    )


@pytest.mark.parametrize("error", [DeviceError("no card; plug one in"), ZeroDivisionError("x")])
def test_a_check_that_breaks_is_a_failed_check(error: Exception) -> None:
    def broken() -> Check:
        raise error

    check = run_probe(Probe("broken", broken))
    assert (check.name, check.status) == ("broken", "fail")
    assert str(error) in check.detail


def test_only_failures_make_the_report_bad() -> None:
    fine, warned, failed = (Check("n", status, "d") for status in ("ok", "warn", "fail"))
    assert report([fine, warned])["ok"] is True
    assert report([failed, fine])["ok"] is False
    assert report([])["ok"] is True


@pytest.mark.parametrize(
    ("way", "crashed", "fault"),
    [
        ("killed", True, "killed by SIGSEGV"),
        ("raised", True, "exit code 1, and it said: RuntimeError: the library does not load"),
        ("silent", True, "exit code 0, and it said: nothing"),
        ("refused", False, "no such card"),
        ("answered", False, ""),
    ],
)
def test_how_a_child_ends_is_told_apart(way: str, *, crashed: bool, fault: str) -> None:
    result = run_module("tests.apps.dying_child", way)
    assert (result.crashed, result.fault) == (crashed, fault)
    assert result.facts == ({} if fault else {"n_samples": 3})


def test_a_crash_of_llama_is_answered_with_a_rebuild() -> None:
    crash = ChildResult(fault="killed by SIGSEGV", crashed=True)
    refusal = ChildResult(fault="a GGUF model needs llama-cpp-python; install it")
    assert "build_llama" in parts.llama(crash, has_model=True).remedy
    assert "build_llama" not in parts.llama(refusal, has_model=True).remedy


def test_flags_are_read_from_either_kind_of_cpuinfo(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags\t\t: avx2 fma f16c\n\n", encoding="utf-8")
    assert machine.cpu_flags(cpuinfo) == AVX2
    cpuinfo.write_text("processor : 0\nFeatures\t: asimd asimddp\n", encoding="utf-8")
    assert machine.cpu_flags(cpuinfo) == {"asimd", "asimddp"}
    assert machine.cpu_flags(tmp_path / "none") == frozenset()


def test_fast_leaves_out_the_slow_checks_and_nothing_else() -> None:
    everything = {probe.name: probe.slow for probe in probes(fast=False)}
    fast = {probe.name for probe in probes(fast=True)}
    assert fast == {name for name, slow in everything.items() if not slow}
    assert {"bandwidth", "llama.cpp", "microphone"} <= everything.keys() - fast


def test_the_command_prints_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code = run(["doctor", "--fast", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [check["name"] for check in found["checks"]] == [p.name for p in probes(fast=True)]
    assert exit_code == (0 if found["ok"] else 1)
    assert found["ok"] == all(check["status"] != "fail" for check in found["checks"])
