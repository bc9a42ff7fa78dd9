"""Whatever is wrong: one clear line, the right exit code, no traceback, nothing half-written."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge.store import ModelStore

COMMAND = [sys.executable, "-m", "apps.cli"]
QUESTION = Path(__file__).resolve().parents[2] / "apps" / "assets" / "question.flac"


def edge(*args: str | Path, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit code and stderr of a command."""
    done = subprocess.run(
        [*COMMAND, *map(str, args)],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        timeout=120,
        check=False,
    )
    return done.returncode, done.stderr.strip()


def one_line(stderr: str) -> str:
    """The line, which must be the only one."""
    assert "Traceback" not in stderr
    assert len(stderr.splitlines()) == 1, stderr
    return stderr


def broken_sounds(folder: Path) -> dict[str, Path]:
    nan = np.zeros(24_000, np.float32)
    nan[12_000] = np.nan
    made = {name: folder / f"{name}.wav" for name in ("empty", "junk", "header", "nan", "short")}
    made["empty"].touch()
    made["junk"].write_bytes(np.random.default_rng(0).bytes(4_000))
    soundfile.write(made["header"], np.zeros(0), 24_000)
    soundfile.write(made["nan"], nan, 24_000, subtype="FLOAT")
    soundfile.write(made["short"], np.zeros(24_000), 24_000)
    made["short"].write_bytes(made["short"].read_bytes()[:9_000])
    made["missing"] = folder / "nowhere.wav"
    made["folder"] = folder
    return made


@pytest.mark.real
@pytest.mark.parametrize("kind", ["empty", "junk", "header", "nan", "short", "missing", "folder"])
def test_a_broken_sound_file_is_wrong_use(
    starter_models: ModelStore, tmp_path: Path, kind: str
) -> None:
    path, output = broken_sounds(tmp_path)[kind], tmp_path / "out" / "reply.wav"
    output.parent.mkdir()
    code, stderr = edge("talk", "--input", path, "--output", output, "--clock", "fast")
    assert code == 2
    assert path.name in one_line(stderr)
    assert list(output.parent.iterdir()) == []


@pytest.mark.real
@pytest.mark.parametrize(
    ("rate_hz", "n_channels", "subtype"),
    [(96_000, 1, "PCM_24"), (8_000, 1, "PCM_U8"), (44_100, 7, "PCM_16"), (22_050, 2, "DOUBLE")],
)
def test_unusual_sound_files_simply_work(
    starter_models: ModelStore, tmp_path: Path, rate_hz: int, n_channels: int, subtype: str
) -> None:
    path, output = tmp_path / "odd.wav", tmp_path / "reply.wav"
    t = np.arange(rate_hz // 2) / rate_hz
    tone = 0.2 * np.sin(2 * np.pi * 440 * t)
    soundfile.write(path, np.stack([tone] * n_channels, axis=1), rate_hz, subtype=subtype)
    code, stderr = edge("talk", "--input", path, "--output", output, "--clock", "fast")
    assert code == 0, stderr
    assert soundfile.info(output).samplerate == 24_000


@pytest.fixture
def own_models(starter_models: ModelStore, tmp_path: Path) -> Path:
    """A data folder whose models are links to the real ones, to be damaged one at a time."""
    models = tmp_path / "data" / "models"
    for path in starter_models.root.rglob("*"):
        if path.is_file() and ".prepared" not in path.parts:
            link = models / path.relative_to(starter_models.root)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    return models


def damage(path: Path, *, flip: bool) -> None:
    data = bytearray(path.read_bytes())
    path.unlink()
    if flip:
        data[len(data) // 2] ^= 1
    path.write_bytes(data if flip else data[: len(data) // 2])


@pytest.mark.real
@pytest.mark.parametrize(
    ("file", "flip"),
    [
        ("smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf", True),
        ("smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf", False),
        ("whisper-tiny.en/model.bin", True),
        ("silero-vad-6.2/silero_vad.onnx", True),
    ],
)
def test_a_damaged_model_is_never_loaded(own_models: Path, file: str, flip: bool) -> None:
    damage(own_models / file, flip=flip)
    env = {"EDGE_DATA_DIR": str(own_models.parent)}
    code, stderr = edge("talk", "--input", QUESTION, "--clock", "fast", env=env)
    assert code == 1
    assert Path(file).name in one_line(stderr)
    assert "edge models fetch" in stderr


@pytest.mark.real
def test_a_missing_model_says_how_to_get_it(own_models: Path) -> None:
    shutil.rmtree(own_models / "whisper-tiny.en")
    env = {"EDGE_DATA_DIR": str(own_models.parent)}
    code, stderr = edge("talk", "--input", QUESTION, "--clock", "fast", env=env)
    assert code == 1
    assert "whisper-tiny.en" in one_line(stderr)
    assert "edge models fetch" in stderr


@pytest.mark.parametrize(
    ("args", "env", "named"),
    [
        (["config", "show"], {"EDGE_TALK_ENGIN": "x"}, "EDGE_TALK_ENGINE"),
        (["talk", "--engine", "orchestra"], {}, "orchestra"),
        (["talk", "--clock", "fast"], {}, "--input"),
        (["talk", "--stereo"], {}, "--output"),
        (["talk", "--input", "x.wav", "--clock", "slow"], {}, "slow"),
        (["tlak"], {}, "talk"),
    ],
)
def test_wrong_use_is_exit_two(args: list[str], env: dict[str, str], named: str) -> None:
    code, stderr = edge(*args, env=env)
    assert code == 2
    assert named in one_line(stderr)


@pytest.mark.real
def test_an_output_that_cannot_be_written_is_said_before_anything_is_loaded(
    starter_models: ModelStore, tmp_path: Path
) -> None:
    began = time.monotonic()
    code, stderr = edge("talk", "--input", QUESTION, "--output", tmp_path / "no" / "reply.wav")
    assert code != 0
    assert "reply.wav" in one_line(stderr)
    assert time.monotonic() - began < 60


@pytest.mark.real
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_conversation_leaves_no_recording(
    starter_models: ModelStore, tmp_path: Path, how: signal.Signals
) -> None:
    output = tmp_path / "reply.wav"
    command = [*COMMAND, "talk", "--input", str(QUESTION), "--output", str(output)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
        assert p.stdout is not None
        assert p.stdout.readline().startswith("ready")
        time.sleep(0.5)
        p.send_signal(how)
        _, stderr = p.communicate(timeout=30)
    assert not output.exists()
    if how is not signal.SIGKILL:
        assert p.returncode == 130
        assert "interrupted" in one_line(stderr.strip())
        assert list(tmp_path.iterdir()) == []
