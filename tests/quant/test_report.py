"""A result as files: nothing missing, nothing that is no JSON, a page that needs nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import UsageError
from quant.measure.compare import compare_results
from quant.measure.ears import Options
from quant.measure.gates import TRANSPARENT
from quant.measure.report import write_report
from quant.measure.result import read_result, to_json
from quant.measure.rows import Row
from quant.measure.run import CODEC_GATES, Plan, assemble

LAYERS = {f"decoder:matmul:layers.{i}.</script>": 20.0 + i for i in range(12)}


def rows(folder: Path, *, worse: float = 0.0, n: int = 24) -> list[Row]:
    """Measured utterances of a candidate; `worse` is taken off its PESQ."""
    rng = np.random.default_rng(0)
    t = np.arange(24_000) / 24_000
    found = []
    for i in range(n):
        sounds = {}
        for k, arm in enumerate(("original", "reference", "candidate")):
            path = folder / f"{i}-{arm}.npy"
            pcm = (0.1 * np.sin(2 * np.pi * (200 + 20 * i + k) * t)).astype(np.float32)
            np.save(path, pcm)
            sounds[arm] = str(path)
        found.append(
            Row(
                f"clip-{i:02d}",
                f"speaker-{i % 8}",
                1.0,
                metrics={
                    "pesq": 4.55 - worse + float(rng.normal(0, 0.02)),
                    "si_sdr_db": 30.0 - 5 * worse,
                    "mel_db": 0.4,
                    "pause_rise_db": 0.5,
                    "pesq_change": -0.01,
                    "estoi_change": -0.001,
                    "dnsmos_change": 0.0,
                    "plcmos_change": 0.0,
                    "speaker": 0.99,
                    "tokens_level_1": 0.99,
                    "tokens_mean": 0.97,
                },
                counts={"candidate.wer": (1, 12), "reference.wer": (1, 12)},
                facts={"reference.estoi_original": 0.9, "candidate.dnsmos": 3.0},
                sounds=sounds,
                missing={"visqol": "the package visqol is not installed"},
            )
        )
    return found


def result_of(
    found: list[Row], size_bytes: int = 1_000_000, *, without: tuple[str, ...] = ("visqol",)
) -> dict[str, Any]:
    levels = {"weights": {"sqnr_db": LAYERS}, "codec": {"levels": [0.99, 0.98, 0.95]}}
    fine = {"zero": 1.0, "largest": 0.0, "n": 5.0}
    bad = {"rejected": 1.0, "n_failed": 3.0, "n": 5.0}
    plan = Plan(TRANSPARENT, Options(without))
    made = assemble(None, None, found, plan, CODEC_GATES, fine, bad, levels)
    model = {"path": "model", "kind": "mimi", "fingerprint": "f"}
    made["reference"] = model | {"recipe": "float", "size_bytes": 4_000_000}
    made["candidate"] = model | {"recipe": "int8", "size_bytes": size_bytes}
    made["speech"] = {
        "folder": "s",
        "sha256": "0",
        "n": len(found),
        "unit": "speakers",
        "n_units": 8,
    }
    made["labels"] = ["synthetic speech: no absolute claim about quality"]
    return made


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    found = rows(folder)
    other = result_of(rows(folder, worse=0.8), 400_000)
    write_report(folder, result_of(found), found, [other])
    return folder


def test_the_files_say_the_same(report: Path) -> None:
    result = read_result(report)
    text = (report / "report.md").read_text()
    assert result["verdict"] == "pass"
    assert "# int8: pass" in text
    assert "synthetic speech: no absolute claim" in text
    assert "Waived with --without, so the verdict says nothing of it: visqol" in text
    assert all(name in text for name in result["worst"])
    said = {gate["metric"]: gate["verdict"] for gate in result["gates"]}
    assert said["pesq"] == "pass"
    assert said["visqol_change"] == "waived"
    assert result["metrics"]["wer_change"]["mean"] == 0


def test_a_metric_that_is_not_there_leaves_the_verdict_open(tmp_path: Path) -> None:
    found = rows(tmp_path)
    result = result_of(found, without=())
    write_report(tmp_path, result, found)
    text = (tmp_path / "report.md").read_text()
    assert (result["verdict"], result["waived"]) == ("inconclusive", [])
    assert result["why"] == ["visqol_change: the package visqol is not installed"]
    assert text.index("- visqol_change: the package") < text.index("| gate |")


def test_a_control_that_fails_makes_the_verdict_worthless(tmp_path: Path) -> None:
    found = rows(tmp_path)
    fine, bad = {"zero": 1.0, "largest": 0.0}, {"rejected": 0.0, "n_failed": 0.0}
    made = assemble(None, None, found, Plan(TRANSPARENT), CODEC_GATES, fine, bad, {})
    assert made["verdict"] == "inconclusive"


def test_json_has_no_numbers_that_are_none() -> None:
    assert json.loads(to_json({"a": float("nan"), "b": [float("inf"), 1.5]})) == {
        "a": None,
        "b": [None, 1.5],
    }


def test_a_regression_is_found_and_noise_is_none(tmp_path: Path) -> None:
    baseline = result_of(rows(tmp_path))
    assert compare_results(baseline, baseline)["verdict"] == "pass"
    worse = compare_results(baseline, result_of(rows(tmp_path, worse=0.5)))
    assert worse["verdict"] == "fail"
    assert [row["metric"] for row in worse["metrics"] if row["said"] == "worse"] == [
        "pesq",
        "si_sdr_db",
    ]
    assert compare_results(result_of(rows(tmp_path, worse=0.5)), baseline)["verdict"] == "pass"
    other: Mapping[str, Any] = baseline | {"speech": baseline["speech"] | {"sha256": "1"}}
    with pytest.raises(UsageError, match="another speech"):
        compare_results(baseline, other)
    with pytest.raises(UsageError, match="no report"):
        read_result(tmp_path / "nothing")


def test_the_page_holds_all_and_asks_for_nothing(report: Path) -> None:
    text = (report / "report.html").read_text()
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:|//)", text)
    assert "default-src 'none'" in text
    assert text.count("</script>") == 2  # a tensor's name cannot end a script


@pytest.mark.live
def test_the_page_works_in_a_browser(report: Path, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if browser is None:
        if os.environ.get("EDGE_REQUIRE_BROWSER") == "1":
            pytest.fail("no chromium here")
        pytest.skip("no chromium here")
    picture = tmp_path / "page.png"
    common = [
        browser, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/u",
        "--enable-logging=stderr", "--v=0", "--window-size=1100,3000",
    ]  # fmt: skip
    page = (report / "report.html").as_uri()
    shot = subprocess.run(
        [*common, f"--screenshot={picture}", page],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    dom = subprocess.run(
        [*common, "--dump-dom", page], capture_output=True, text=True, timeout=120, check=True
    )
    faults = [line for line in (shot.stderr + dom.stderr).splitlines() if "CONSOLE" in line]
    assert faults == []
    assert picture.stat().st_size > 30_000
    shown = dom.stdout
    assert '<span class="badge pass" id="verdict">pass</span>' in shown
    assert shown.count('class="row trial"') == 8
    assert shown.count("<circle") == 2
    assert shown.count("<rect") >= 3 + len(LAYERS)
    for name in ("hear the difference", "clip-", "Save answers", "level 3"):
        assert name in shown
