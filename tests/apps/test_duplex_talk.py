"""`edge talk --engine duplex` as a user calls it, on an untrained model and codec."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from apps.cli.main import run
from apps.cli.talk import LiveCaptions
from edge.frame import Event, Reply, silence
from edge.manifest import read_manifest, record_file, write_manifest
from export.moshi import ExportOptions, export_moshi
from tests.moshi_models import CONFIGS, random_weights, write_safetensors

pytestmark = pytest.mark.skipif(
    any(
        importlib.util.find_spec(name) is None
        for name in ("llama_cpp", "onnx", "onnxruntime", "sentencepiece")
    ),
    reason="needs what the extras duplex and export bring",
)
CODEC = Path(__file__).resolve().parents[1] / "golden" / "mimi"
# 47 pieces, as the model has text tokens.
SENTENCES = ["the cat sat on the mat", "a dog and a bird", "never odd or even", "we saw a quiz"]


def quiet_codec(folder: Path) -> None:
    """The codec with its sound 80 dB down: the conversation comes to rest instead of never."""
    import onnx

    shutil.copytree(CODEC, folder)
    graph = onnx.load(str(folder / "decoder.onnx"))
    (sound,) = (out.name for out in graph.graph.output if out.name == "pcm")
    for node in graph.graph.node:
        node.output[:] = ["loud" if name == sound else name for name in node.output]
    graph.graph.initializer.append(
        onnx.numpy_helper.from_array(np.array(1e-4, np.float32), "quiet")
    )
    graph.graph.node.append(onnx.helper.make_node("Mul", ["loud", "quiet"], [sound]))
    onnx.save(graph, str(folder / "decoder.onnx"))
    manifest = read_manifest(folder)
    files = tuple(record_file(folder, record.path) for record in manifest.files)
    (folder / "manifest.toml").unlink()
    write_manifest(folder, replace(manifest, files=files))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without a tokenizer it says no words, so with a quiet codec it rests."""
    folder = tmp_path_factory.mktemp("resting")
    raw = CONFIGS["moshi"]
    checkpoint = write_safetensors(folder / "model.safetensors", random_weights(raw, 1))
    (folder / "config.json").write_text(json.dumps(raw))
    quiet_codec(folder / "mimi")
    return export_moshi(ExportOptions(checkpoint, folder / "config.json"), folder / "model")


@pytest.fixture(scope="module")
def worded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a tokenizer."""
    import sentencepiece

    folder = tmp_path_factory.mktemp("duplex_talk")
    raw = CONFIGS["moshi"]
    checkpoint = write_safetensors(folder / "model.safetensors", random_weights(raw, 1))
    (folder / "config.json").write_text(json.dumps(raw))
    with (folder / "text.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES * 9), model_writer=file, vocab_size=47,
            minloglevel=2, hard_vocab_limit=False, model_type="bpe", pad_id=3,
        )  # fmt: skip
    options = ExportOptions(checkpoint, folder / "config.json", folder / "text.model")
    (folder / "mimi").symlink_to(CODEC, target_is_directory=True)
    return export_moshi(options, folder / "model")


@pytest.fixture
def question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_CPU_CORES", "1")  # two threads wait for each other on a busy machine
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "question.wav", rng.uniform(-0.3, 0.3, 24_000), 24_000)
    return tmp_path / "question.wav"


def talk(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    options = ("talk", "--engine", "duplex", "--privacy", "off", "--clock", "fast", "--seed", 3)
    code = run([str(word) for word in (*options, *words)])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_file_is_talked_to_and_the_talk_recorded(
    model: Path, question: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = tmp_path / "talk.wav"
    words = ("--model", model, "--input", question, "--output", recorded, "--stereo")
    code, out, err = talk(capsys, *words, "--json")
    assert code == 0, err
    sound, rate_hz = soundfile.read(recorded)
    assert rate_hz == 24_000
    assert np.abs(sound[:24_000, 0]).mean() > 0.1  # the user is on the left
    assert not sound[30_000:, 0].any()
    assert sound[:, 1].any()
    assert len(sound) < 10 * 24_000
    report = json.loads(out)
    assert {"encode", "temporal", "depth", "decode"} <= set(report["stages"])
    assert report["frames"]["count"] == pytest.approx(len(sound) / 1920, abs=1)


def test_the_plan_is_said_before_the_talk(
    model: Path, question: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = talk(capsys, "--model", model, "--input", question)
    assert code == 0, err
    assert out.startswith("duplex: a frame takes about")


def test_words_are_shown_as_they_come_a_line_a_reply(capsys: pytest.CaptureFixture[str]) -> None:
    captions = LiveCaptions(shown=True)
    ended = Event("reply_ended", {"reply": "", "interrupted": False})
    for text, events in ((" Hel", ()), ("lo.", ()), ("", (ended,)), ("", ()), (" Bye", (ended,))):
        captions.add(Reply(0, silence(), text, events))
    assert capsys.readouterr().out == "Hello.\nBye\n"
    LiveCaptions(shown=False).add(Reply(0, silence(), "not asked for"))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--model", "nowhere"), 2, "no artifact's folder"),
        (("--voice", "gone.wav"), 2, "no voice"),
        (("--voice", "voice.pt"), 2, "edge export voice"),
        (("--prompt", "a cat and a dog " * 60), 2, "shorten it"),
    ],
)
def test_wrong_use_is_one_line(
    words: tuple[str, ...],
    code: int,
    said: str,
    worded: Path,
    question: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "voice.pt").write_bytes(b"\x80\x04.")
    given = words if words[0] == "--model" else ("--model", worded, *words)
    found, out, err = talk(capsys, "--input", question, *given, "--json")
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert said in err
