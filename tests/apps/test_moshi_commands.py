"""The multistream commands as a user calls them: exit codes, JSON, one line for an error."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import click
import pytest

from apps.cli.bench_duplex import bench_duplex
from apps.cli.export_moshi import moshi
from apps.cli.main import run
from apps.cli.plan import plan
from apps.cli.quantize import quantize
from tests.moshi_models import CONFIGS, random_weights, write_safetensors

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("llama_cpp", "onnx", "onnxruntime")),
    reason="needs llama-cpp-python, onnx and onnxruntime: pip install 'edgevoice[cascade,export]'",
)
COMMANDS = click.Group(
    commands={"moshi": moshi, "bench": bench_duplex, "plan": plan, "quantize": quantize}
)


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = run([str(argument) for argument in arguments], COMMANDS)
    out, err = capsys.readouterr()
    return code, out, err


def test_export_bench_and_plan_in_turn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = CONFIGS["moshi"]
    checkpoint = write_safetensors(tmp_path / "model.safetensors", random_weights(raw, 1))
    (tmp_path / "config.json").write_text(json.dumps(raw))
    out = tmp_path / "artifact"
    options = ("--checkpoint", checkpoint, "--config", tmp_path / "config.json", "--out", out)
    code, text, _ = call(capsys, "moshi", *options, "--json")
    report = json.loads(text)
    assert code == 0
    assert report["model_type"] == "moshi"
    assert set(report["files"]) >= {"temporal.gguf", "depth.onnx", "depth.onnx.data"}
    code, _, err = call(capsys, "moshi", *options)
    assert (code, err.count("\n")) == (2, 1)
    assert "exists already" in err
    code, text, _ = call(capsys, "bench", "--model", out, "--frames", 5, "--threads", 1, "--json")
    measured = json.loads(text)
    assert code == 0
    assert measured["frames"]["count"] == 5
    assert measured["bytes_per_frame"]["temporal"] > 4 * 2 * 12 * 64 * 64
    assert set(measured["stage_ms"]) == {"temporal", "text", "depth", "step"}
    code, text, _ = call(capsys, "plan", out, "--json")
    planned = json.loads(text)
    assert (code, planned["engine"]) == (0, "duplex")
    assert planned["choice"]["precision"] == "float"
    assert planned["measured"]["recipe"] == "float"
    assert planned["measured"]["temporal_ms"] > 0
    small = tmp_path / "small"
    code, text, _ = call(capsys, "quantize", out, "--recipe", "int8", "--out", small, "--json")
    made = json.loads(text)
    assert (code, made["recipe"]) == (0, "int8")
    assert made["size_bytes"] < made["size_bytes_before"]
    assert made["tensors"]["q8_0"] > 2


def test_the_published_size_is_the_published_number_of_parameters() -> None:
    from apps.bench.size import model_size

    size = model_size("moshi-7b")
    tables = size.table_bytes // 2 + 1024 * (32_001 + 7 * 2049)  # main tables, depth tables
    assert size.temporal_weights + size.depth_weights + tables == 7_687_729_152


def test_wrong_use_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cut.safetensors").write_bytes(b"\x10")
    for arguments, exit_code, said in (
        (("moshi", "--checkpoint", tmp_path / "no", "--out", tmp_path / "a"), 1, "no such"),
        (
            ("moshi", "--checkpoint", tmp_path / "cut.safetensors", "--out", tmp_path / "a"),
            1,
            "not a whole safetensors file",
        ),
        (("bench",), 2, "want one of"),
        (("plan", tmp_path / "gone"), 2, "no artifact's folder"),
    ):
        code, out, err = call(capsys, *arguments)
        assert (code, out, err.count("\n")) == (exit_code, "", 1)
        assert said in err
    assert not (tmp_path / "a").exists()
