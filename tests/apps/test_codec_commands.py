"""The codec's commands as a user calls them: exit codes, JSON, one line for an error."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import soundfile

from apps.cli.bench_codec import codec as bench_codec
from apps.cli.codec import codec
from apps.cli.export import mimi
from apps.cli.main import run
from apps.cli.quantize import quantize
from runtime.models.mimi_probe import probe_sound

pytest.importorskip("onnxruntime", reason="the codec runs on it")

MODEL = Path(__file__).resolve().parents[1] / "golden" / "mimi"
GROUP = click.Group(
    commands={"codec": codec, "quantize": quantize, "mimi": mimi, "bench": bench_codec}
)


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = run([str(argument) for argument in arguments], GROUP)
    out, err = capsys.readouterr()
    return code, out, err


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit code and the one line of an error; progress lines do not count."""
    code, _, err = call(capsys, *arguments)
    lines = [line for line in err.splitlines() if not line.endswith(" ...")]
    assert len(lines) == 1
    assert lines[0].startswith("edge: error: ")
    return code, lines[0]


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """1.5 s of stereo at 44.1 kHz: nothing about it fits the codec."""
    pcm = np.repeat(probe_sound(20, seed=1).ravel()[: 44_100 * 3 // 2, None], 2, 1)
    pcm = np.pad(pcm, ((0, 44_100 * 3 // 2 - len(pcm)), (0, 0)))
    soundfile.write(tmp_path / "in.wav", pcm, 44_100)
    return tmp_path / "in.wav"


def test_tokens_decode_to_what_a_roundtrip_gives(
    sound: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens, decoded, heard = (sound.with_name(name) for name in ("a.tokens", "b.wav", "c.wav"))
    code, out, _ = call(capsys, "codec", "encode", "--model", MODEL, sound, tokens, "--json")
    facts: dict[str, Any] = json.loads(out)
    assert code == 0
    assert facts["frames"] == 19
    assert facts["sound_s"] == pytest.approx(1.5, abs=0.002)
    assert facts["output_bytes"] == tokens.stat().st_size == 44 + 19 * 3 + 16
    assert facts["kbit_per_s"] == 0.25
    assert call(capsys, "codec", "decode", "--model", MODEL, tokens, decoded)[0] == 0
    assert call(capsys, "codec", "roundtrip", "--model", MODEL, sound, heard)[0] == 0
    assert decoded.read_bytes() == heard.read_bytes()
    info = soundfile.info(str(heard))
    assert (info.samplerate, info.channels) == (24_000, 1)
    assert info.duration == pytest.approx(1.5, abs=0.002)


def test_wrong_files_are_one_line_each(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.wav"
    code, line = error_of(capsys, "codec", "decode", "--model", MODEL, sound, out)
    assert code == 1
    assert "no token file" in line
    code, line = error_of(capsys, "codec", "encode", "--model", tmp_path, sound, out)
    assert code == 1
    assert "manifest" in line
    code, line = error_of(capsys, "codec", "encode", "--model", MODEL, tmp_path / "absent.wav", out)
    assert code == 2
    code, line = error_of(capsys, "codec", "encode", "--model", MODEL, sound, tmp_path)
    assert code == 2
    assert "is a folder" in line
    code, line = error_of(capsys, "codec", "roundtrip", "--model", MODEL, sound, sound)
    assert code == 2
    assert "would replace" in line
    tokens = tmp_path / "a.tokens"
    assert call(capsys, "codec", "encode", "--model", MODEL, sound, tokens)[0] == 0
    tokens.write_bytes(tokens.read_bytes()[:-20])
    code, line = error_of(capsys, "codec", "decode", "--model", MODEL, tokens, out)
    assert code == 1
    assert "cut short" in line
    assert not out.exists()


def test_tokens_of_another_checkpoint_are_refused(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(shutil.copytree(MODEL, tmp_path / "other"))
    manifest = other / "manifest.toml"
    text = manifest.read_text(encoding="utf-8")
    head, _, tail = text.partition("[[sources]]")
    at = tail.index('sha256 = "') + len('sha256 = "')
    manifest.write_text(head + "[[sources]]" + tail[:at] + "0" * 64 + tail[at + 64 :])
    tokens = tmp_path / "a.tokens"
    assert call(capsys, "codec", "encode", "--model", MODEL, sound, tokens)[0] == 0
    code, line = error_of(capsys, "codec", "decode", "--model", other, tokens, tmp_path / "o.wav")
    assert code == 1
    assert "use the codec that encoded it" in line


def test_a_preset_is_chosen_by_measuring(capsys: pytest.CaptureFixture[str]) -> None:
    choose = ("codec", "choose", "--model", MODEL)
    code, text, err = call(capsys, *choose, "--max-ms", 1e6, "--json")
    assert code == 0, err
    found = json.loads(text)
    code, line = error_of(capsys, *choose, "--max-ms", 0)
    assert code == 1
    assert "no codec preset" in line
    assert found["preset"] == "float"
    assert 0 < found["tried"]["float"]["p50_ms"] <= found["tried"]["float"]["p99_ms"]


def test_quantize_works_with_and_without_the_word_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx", reason="graphs are rewritten with it")
    for words, out in ((("quantize",), "a"), (("quantize", "run"), "b")):
        code, text, _ = call(
            capsys, *words, MODEL, "--recipe", "transparent", "--out", tmp_path / out, "--json"
        )
        made = json.loads(text)
        assert code == 0
        assert made["recipe"] == "transparent"
        assert made["difference"]["frames"] == 150
        assert len(made["difference"]["equal_codes"]) == 4
    assert (tmp_path / "a" / "manifest.toml").read_bytes() == (
        tmp_path / "b" / "manifest.toml"
    ).read_bytes()
    options = ("--recipe", "loud", "--out", tmp_path / "c")
    code, line = error_of(capsys, "quantize", MODEL, *options)
    assert code == 2
    assert "transparent" in line


def test_export_says_what_is_wrong_with_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="checkpoints are read with it")
    (tmp_path / "a.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    options = ("--checkpoint", tmp_path / "a.safetensors", "--out", tmp_path / "out")
    code, line = error_of(capsys, "mimi", *options)
    assert code == 1
    assert "missing" in line
    code, line = error_of(capsys, "mimi", *options, "--codebooks", 33)
    assert code == 2
    assert "1 to 32" in line
    assert not (tmp_path / "out").exists()


def test_the_bench_measures_an_artifact(capsys: pytest.CaptureFixture[str]) -> None:
    code, text, err = call(
        capsys, "bench", "--model", MODEL, "--frames", 3, "--no-paced", "--threads", 1, "--json"
    )
    assert code == 0, err
    result = json.loads(text)
    (row,) = result["runs"][0]["interleaved"].values()
    assert row["codes_equal_to_first"] == 1.0
    for kind in ("wall_ms", "cpu_ms"):
        for part in ("encode", "decode", "both"):
            assert row[kind][part]["p50"] <= row[kind][part]["p95"] <= row[kind][part]["p99"]


def test_the_bench_refuses_what_it_cannot_compare(capsys: pytest.CaptureFixture[str]) -> None:
    for options in (
        ("--against", "opus"),
        ("--against", "moshi"),
        ("--against", "moshi", "--checkpoint", "absent.safetensors"),
        ("--frames", 0),
    ):
        code, _ = error_of(capsys, "bench", "--model", MODEL, *options)
        assert code == 2
