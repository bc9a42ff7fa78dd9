"""What people get wrong with recipes, calibration and speech: one clear line each, and its code."""

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
from edge.hashing import sha256_of
from quant.recipe import load_recipe
from quant.run import quantize as make
from quant.subject import open_subject
from tests.export.mimi_models import tiny_artifact
from tests.quant.test_measure import voice, write_clip

COMMANDS = click.Group(commands={"quantize": quantize, "measure": measure})
QUICK = ["--not-timed", "--workers", "1", "--without"]
QUICK += ["pesq,estoi,visqol,dnsmos,plcmos,speaker,words"]


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, the last line on standard error, and standard output."""
    code = run([str(one) for one in arguments], COMMANDS)
    out = capsys.readouterr()
    return code, (out.err.strip().splitlines() or [""])[-1], out.out


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("small")
    return make(open_subject(tiny_artifact()), load_recipe("tiny"), home / "tiny").directory


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_CACHE_DIR", str(tmp_path / "cache"))
    for name, pitch_hz in (("one", 120), ("two", 170)):
        (tmp_path / name).mkdir()
        write_clip(tmp_path / name / f"{name}.wav", voice(0.4, 24_000, pitch_hz))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('nam = "x"', "unknown key nam; did you mean name?"),
        ('[[mimi]]\nmatch = "enc.*"\nto = "f16"\nwhen = 1', r"unknown key mimi[1].when"),
        ('[[mimi]]\nmatch = "encodr:.*"\nto = "f16"', "matches no weight of this model (there is"),
        ('[[mimi]]\nmatch = "(enc"\nto = "f16"', "is no regular expression"),
        ('[[mimi]]\nmatch = ".*"\nto = "w5"', "unknown precision 'w5'"),
        ('[[mimi]]\nmatch = ".*"\nto = "w4"', "cannot become w4; name a fallback"),
        ('[[moshi]]\nmatch = ".*"\nto = "q4_K"', "has no [[mimi]] rules; it has moshi"),
        ('calibration = "maybe"', "known are optional, required, none"),
        ('calibration = "required"\n[[mimi]]\nmatch = ".*"\nto = "f16"', "wants a calibration"),
    ],
)
def test_a_recipe_that_is_wrong(
    text: str, said: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "mine.toml").write_text('name = "mine"\n' + text + "\n")
    arguments = ["quantize", tiny_artifact(), "--recipe", home / "mine.toml"]
    code, line, _ = call(capsys, *arguments, "--out", home / "out")
    assert code == 2
    assert line.startswith("edge: error: ")
    assert said in line
    assert not (home / "out").exists()


def test_a_candidate_of_another_reference(
    home: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = home / "other"
    text = (small / "manifest.toml").read_text("utf-8")
    other.mkdir()
    for path in small.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    cut = text[: text.index("[[sources]]")] + text[text.index("[[files]]") :]
    (other / "manifest.toml").write_text(cut, "utf-8")
    code, line, _ = call(
        capsys, "measure", tiny_artifact(), other, "--speech", home / "one", *QUICK
    )
    assert code == 2
    assert "was not made from" in line


def test_silent_and_clipped_clips(
    home: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip(home / "one" / "still.wav", np.zeros(24_000, np.float32))
    loud = np.clip(4 * np.sin(np.arange(24_000) / 9), -1, 1)
    write_clip(home / "one" / "loud.wav", loud.astype(np.float32))
    arguments = ["measure", tiny_artifact(), small, "--speech", home / "one", *QUICK]
    code, _, text = call(capsys, *arguments, "--json")
    assert code in (1, 3)
    skipped = json.loads(text)["skipped"]
    assert skipped["still"] == "silent"
    assert skipped["loud"].startswith("clipped (")
    (home / "one" / "one.wav").unlink()
    code, line, _ = call(capsys, *arguments)
    assert code == 2
    assert "none of the clips can be measured" in line


def test_speech_that_was_calibrated_with_is_not_measured_on(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, matrix = tiny_artifact(), home / "c.gguf"
    arguments = ["quantize", "calibrate", model, "--speech", home / "one", "--out", matrix]
    assert call(capsys, *arguments)[0] == 0
    found_on = sha256_of(home / "one" / "one.wav")
    for name, head, more in (
        ("calibrated", "", ["--calibration", matrix]),
        ("searched", f'speech = ["{found_on} one"]', []),
    ):
        text = f'name = "m"\n{head}\n[[mimi]]\nmatch = ".*:matmul:.*"\nto = "w4f"\n'
        (home / "m.toml").write_text(text + 'fallback = "float"\n')
        made = ["quantize", model, "--recipe", home / "m.toml", "--out", home / name]
        assert call(capsys, *made, "--no-compare", *more)[0] == 0
        measured = ["measure", model, home / name, *QUICK, "--speech"]
        code, line, _ = call(capsys, *measured, home / "one")
        assert code == 2
        assert line == (
            "edge: error: 1 of the clips, one among them, were used for calibration; measure on "
            "other speech"
        )
        assert call(capsys, *measured, home / "two")[0] in (1, 3)


def test_many_clips_of_few_speakers_say_nothing(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = make(open_subject(tiny_artifact()), load_recipe("float"), home / "same").directory
    for i in range(20):
        write_clip(home / "one" / f"{i}.wav", voice(0.3, 24_000, 100 + 5 * i))
    (home / "one" / "one.wav").unlink()
    arguments = ["measure", tiny_artifact(), same, "--speech", home / "one", *QUICK, "--json"]
    for n_speakers, wanted in ((2, 3), (10, 0)):
        rows = [f"{i}.wav\tspeaker{i % n_speakers}" for i in range(20)]
        (home / "one" / "manifest.tsv").write_text("\n".join(["file\tspeaker", *rows, ""]))
        code, _, text = call(capsys, *arguments)
        result = json.loads(text)
        assert code == wanted, result["why"]
        if wanted:
            assert result["verdict"] == "inconclusive"
            few = "20 utterances, 2 of them independent, are too few"
            assert result["why"]
            assert all(few in why for why in result["why"])
