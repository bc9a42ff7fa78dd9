"""`edge quantize`, `edge measure` and `edge sweep` from the outside: exit codes, files, lines."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest

pytest.importorskip("torch", reason="the artifact of these tests is exported with it")
pytest.importorskip("onnx", reason="graphs are rewritten with it")

from apps.cli.main import run
from apps.cli.measure import measure
from apps.cli.quantize import quantize
from apps.cli.quantize_look import DEVICE_NAMES
from apps.cli.sweep import sweep
from quant.planning import DEVICES
from quant.subject import open_subject
from tests.export.mimi_models import tiny_artifact
from tests.quant.test_measure import voice, write_clip

COMMANDS = click.Group(commands={"quantize": quantize, "measure": measure, "sweep": sweep})
SKIP = "pesq,estoi,visqol,dnsmos,plcmos,speaker,words"


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = run([str(one) for one in arguments], COMMANDS)
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.fixture
def speech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "speech"
    folder.mkdir()
    for i in range(2):
        write_clip(folder / f"clip{i}.wav", voice(0.5, 24_000, 110 + 40 * i))
    return folder


def test_look_plan_make_verify_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_artifact()
    code, text, _ = call(capsys, "quantize", "inspect", model, "--json")
    assert (code, json.loads(text)["section"]) == (0, "mimi")
    code, text, _ = call(capsys, "quantize", "plan", model, "--target-size", "1MB", "--json")
    assert code == 0
    assert json.loads(text)["choice"] in ("int8", "compact", "int4")
    assert call(capsys, "quantize", "plan", model, "--target-size", "1kB")[0] == 1
    assert call(capsys, "quantize", "plan", model, "--target-size", "much")[0] == 2
    out = tmp_path / "int8"
    assert call(capsys, "quantize", model, "--recipe", "int8", "--out", out, "--no-compare")[0] == 0
    code, text, _ = call(
        capsys, "quantize", "verify", out, "--source", model, "--recipe", "int8", "--json"
    )
    assert (code, json.loads(text)["same_bytes"]) == (0, True)
    recipe = tmp_path / "mix.toml"
    code, text, _ = call(
        capsys, "quantize", "search", model, "--target-size", "900kB", "--out", recipe
    )
    assert code == 0
    assert call(capsys, "quantize", model, "--recipe", recipe, "--out", tmp_path / "mix")[0] == 0
    for wrong, why in (
        ([], "say how small with --target-size SIZE, or how good with --than PRECISION"),
        (["--than", "w9"], "no weight here can become 'w9'"),
        (
            ["--than", "f16", "--speech", tmp_path],
            "--speech is heard with --by sound or --by kl only",
        ),
    ):
        code, _, said = call(capsys, "quantize", "search", model, *wrong, "--out", recipe)
        assert code == 2
        assert why in said.strip().splitlines()[-1]
    code, _, said = call(capsys, "quantize", model, "--recipe", "int5", "--out", tmp_path / "x")
    assert code == 2
    assert said.strip().splitlines()[-1].startswith("edge: error: there is no recipe 'int5'")


def test_measure_says_what_it_cannot_say(
    speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, report = tmp_path / "small", tmp_path / "report"
    call(capsys, "quantize", tiny_artifact(), "--recipe", "transparent", "--out", small)
    arguments = [
        "--speech",
        speech,
        "--without",
        SKIP,
        "--not-timed",
        "--workers",
        1,
        "--untrained",
    ]
    code, text, _ = call(
        capsys, "measure", tiny_artifact(), small, *arguments, "--out", report, "--json"
    )
    result = json.loads(text)
    assert (code, result["verdict"]) == (3, "inconclusive")
    assert result["controls"]["fine"]
    assert {path.name for path in report.iterdir()} == {"report.json", "report.md", "report.html"}
    assert call(capsys, "measure", "compare", report, report)[0] == 0
    code, _, said = call(
        capsys, "measure", small, tiny_artifact(), *arguments[:2], "--without", "pesk"
    )
    assert code == 2
    assert "unknown metric 'pesk'" in said
    code, _, said = call(capsys, "measure", tiny_artifact(), small)
    assert code == 2
    assert "--speech DIR" in said
    assert np.isfinite(result["metrics"]["si_sdr_db"]["mean"])
    assert result["took"]["wall_s"] > 0


def test_a_sweep_goes_on_where_it_was(
    speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sweep", tiny_artifact(), "transparent", "tiny", "--speech", speech]
    arguments += ["--without", SKIP, "--out", tmp_path / "all", "--workers", 1, "--json"]
    code, text, _ = call(capsys, *arguments)
    first = json.loads(text)["recipes"]
    assert code == 3  # two clips show nothing
    assert first[0]["means"]["si_sdr_db"] > first[1]["means"]["si_sdr_db"]
    (tmp_path / "all" / "tiny" / "report" / "report.json").unlink()
    before = (tmp_path / "all" / "transparent" / "report" / "report.json").stat().st_mtime_ns
    for path in (tmp_path / "all" / "tiny" / "report").iterdir():
        path.unlink()
    _, text, _ = call(capsys, *arguments)
    assert json.loads(text)["recipes"] == first
    after = (tmp_path / "all" / "transparent" / "report" / "report.json").stat().st_mtime_ns
    assert before == after
    code, _, said = call(capsys, *arguments, "--gates", "nope")
    assert code == 2
    assert said.strip().splitlines()[-1].endswith("unknown gates 'nope'; known are "
                                                  "transparent, compact")  # fmt: skip


def test_nothing_is_cut_to_the_width_of_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    items = open_subject(tiny_artifact()).items
    _, text, _ = call(capsys, "quantize", "inspect", tiny_artifact(), "--top", len(items))
    last = {line.split()[-1] for line in text.splitlines()}
    assert {item.label for item in items} <= last
    for device in DEVICES:
        assert device in DEVICE_NAMES
        code, text, _ = call(capsys, "quantize", "plan", tiny_artifact(), "--device", device)
        assert code == 0
        assert len([line for line in text.splitlines() if " ms " in line and " MB " in line]) == 6
        assert f"{DEVICES[device][0]:g} GB/s" in text
    code, text, _ = call(capsys, "quantize", "plan", tiny_artifact(), "--target-size", "1kB")
    assert code == 1
    assert text.count("too large") == 6
