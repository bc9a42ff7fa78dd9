"""A Whisper checkpoint read from both layouts, and the graphs made of a trained one."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import ArtifactError, ModelDamagedError, ModelMissingError, ShapeError
from edge.frame import Pcm
from edge.resample import Resampler
from edge.store import ModelStore
from export.asr import MAX_ERROR, ExportedAsr, export_asr
from export.ct2_file import read_ct2
from export.whisper_checkpoint import read_whisper
from runtime.backends.ct2 import DecodeOptions, WhisperNet
from runtime.models.asr import Recogniser
from runtime.models.logmel import log_mel, make_mel_plan
from runtime.models.tts import Voice
from runtime.models.whisper import WhisperGraphs

safetensors = pytest.importorskip("safetensors.numpy")

_PROMPT = ("<|startoftranscript|>", "<|notimestamps|>")
_WIDTH, _N_TOKENS = 64, 40


def ct2_bytes(tensors: Mapping[str, NDArray[np.generic]], aliases: Mapping[str, str]) -> bytes:
    """What CTranslate2 would write."""
    types = {"float32": 0, "int8": 1, "float16": 4}

    def text(word: str) -> bytes:
        return struct.pack("<H", len(word) + 1) + word.encode() + b"\0"

    out = [struct.pack("<I", 6), text("WhisperSpec"), struct.pack("<II", 3, len(tensors))]
    for name, value in tensors.items():
        out += [
            text(name),
            struct.pack("<B", value.ndim),
            struct.pack(f"<{value.ndim}I", *value.shape),
        ]
        out += [struct.pack("<BI", types[str(value.dtype)], value.nbytes), value.tobytes()]
    out += [struct.pack("<I", len(aliases)), *(text(a) + text(b) for a, b in aliases.items())]
    return b"".join(out)


def test_a_model_bin_is_read_to_the_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(3, 5)).astype(np.float16)
    scalar = np.array(2.5, np.float32)
    path = tmp_path / "model.bin"
    path.write_bytes(ct2_bytes({"a/weight": weight, "b": scalar}, {"c/weight": "a/weight"}))
    file = read_ct2(path)
    assert np.array_equal(file.float32("a/weight"), weight.astype(np.float32))
    assert np.array_equal(file.float32("c/weight"), file.float32("a/weight"))
    assert file.float32("b") == 2.5


@pytest.mark.parametrize("n_bytes", [0, 3, 20, -1])
def test_a_model_bin_cut_short_is_refused(tmp_path: Path, n_bytes: int) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(ct2_bytes({"a": np.zeros((2, 2), np.float32)}, {})[:n_bytes])
    with pytest.raises(ModelDamagedError, match="not a whole CTranslate2 model"):
        read_ct2(path)


def test_rounded_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(ct2_bytes({"a": np.zeros((2, 2), np.int8)}, {}))
    with pytest.raises(ModelDamagedError, match="cannot be read back"):
        read_ct2(path).float32("a")


def hub_checkpoint(folder: Path, *, left_out: str = "") -> dict[str, NDArray[np.float32]]:
    """A one-layer Whisper with random weights, as transformers writes it."""
    rng = np.random.default_rng(1)
    d = _WIDTH
    shapes: dict[str, tuple[int, ...]] = {
        "model.encoder.conv1.weight": (d, 80, 3),
        "model.encoder.conv1.bias": (d,),
        "model.encoder.conv2.weight": (d, d, 3),
        "model.encoder.conv2.bias": (d,),
        "model.encoder.embed_positions.weight": (1500, d),
        "model.decoder.embed_positions.weight": (448, d),
        "model.decoder.embed_tokens.weight": (_N_TOKENS, d),
    }
    for side, kinds in (("encoder", ["self_attn"]), ("decoder", ["self_attn", "encoder_attn"])):
        at = f"model.{side}.layers.0"
        norms = [f"model.{side}.layer_norm", f"{at}.final_layer_norm"]
        norms += [f"{at}.{kind}_layer_norm" for kind in kinds]
        shapes |= {f"{norm}.{part}": (d,) for norm in norms for part in ("weight", "bias")}
        for kind in kinds:
            for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                shapes[f"{at}.{kind}.{part}.weight"] = (d, d)
                if part != "k_proj":
                    shapes[f"{at}.{kind}.{part}.bias"] = (d,)
        shapes |= {f"{at}.fc1.weight": (4 * d, d), f"{at}.fc1.bias": (4 * d,)}
        shapes |= {f"{at}.fc2.weight": (d, 4 * d), f"{at}.fc2.bias": (d,)}
    tensors = {n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items() if n != left_out}
    folder.mkdir()
    safetensors.save_file(tensors, folder / "model.safetensors")
    words = ["<|endoftext|>", "<|startoftranscript|>", "<|nospeech|>", "<|notimestamps|>"]
    words += [f"w{i}" for i in range(_N_TOKENS - len(words))]
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (folder / "config.json").write_text(json.dumps({"suppress_tokens": [3], "d_model": d}))
    return tensors


def test_the_layout_of_transformers_is_read(tmp_path: Path) -> None:
    raw = hub_checkpoint(tmp_path / "hub")
    weights = read_whisper(tmp_path / "hub")
    assert weights.n_layers("decoder") == 1
    assert weights.vocabulary[1] == "<|startoftranscript|>"
    assert weights.suppressed == (3,)
    q = weights.tensors["decoder.0.cross.q.weight"]
    assert np.array_equal(q, raw["model.decoder.layers.0.encoder_attn.q_proj.weight"])
    assert not weights.tensors["encoder.0.self.k.bias"].any()


def test_what_a_checkpoint_lacks_is_named(tmp_path: Path) -> None:
    hub_checkpoint(tmp_path / "hub", left_out="model.decoder.layers.0.fc1.bias")
    with pytest.raises(ShapeError, match=r"missing decoder\.0\.ffn\.1\.bias"):
        read_whisper(tmp_path / "hub")


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelMissingError, match=r"neither model\.bin"):
        read_whisper(tmp_path)


@pytest.fixture(scope="module")
def made(starter_models: ModelStore, tmp_path_factory: pytest.TempPathFactory) -> ExportedAsr:
    folder = starter_models.files("whisper-tiny.en")["model.bin"].parent
    out = tmp_path_factory.mktemp("asr") / "tiny"
    return export_asr(folder, out, on_progress=lambda *_: None)


@pytest.fixture(scope="module")
def spoken(starter_models: ModelStore) -> Pcm:
    """A sentence as float32 at 16 kHz."""
    voice = Voice(starter_models.files("hibari-heart"))
    pcm = voice.speak("How many legs does a spider have?", seed=0).pcm
    return Resampler(24_000, 16_000).push(pcm, last=True)


@pytest.mark.real
def test_a_trained_network_writes_the_same_tokens(
    starter_models: ModelStore, made: ExportedAsr, spoken: Pcm
) -> None:
    theirs = WhisperNet(starter_models.files("whisper-tiny.en"), compute_type="float32")
    ours = WhisperGraphs(made.directory)
    features = log_mel(make_mel_plan(), spoken[: len(spoken) // 320 * 320])
    encoded = theirs.encode(features)
    assert np.abs(ours.encode(features) - encoded).max() < MAX_ERROR
    padded = np.zeros((3_000, 80), np.float32).T.copy()
    padded[:, : features.shape[1]] = features
    rows = theirs.encode(padded)
    want = theirs.decode(rows, _PROMPT, DecodeOptions())
    got = ours.decode(rows, _PROMPT, DecodeOptions())
    assert got.tokens == want.tokens
    assert got.score == pytest.approx(want.score, abs=1e-3)
    assert got.no_speech_prob == pytest.approx(want.no_speech_prob, abs=1e-4)


@pytest.mark.real
def test_the_recogniser_takes_either(made: ExportedAsr, spoken: Pcm) -> None:
    assert made.errors.keys() == {"encoder", "cross", "decoder"}
    heard = Recogniser(WhisperGraphs(made.directory)).transcribe(spoken)
    assert heard.text == "How many legs does a spider have?"


@pytest.mark.real
def test_a_changed_graph_is_refused(made: ExportedAsr, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in made.directory.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    raw = bytearray((copy / "cross.onnx").read_bytes())
    raw[1000] ^= 1
    (copy / "cross.onnx").write_bytes(raw)
    with pytest.raises(ArtifactError, match=r"cross\.onnx is damaged"):
        WhisperGraphs(copy)
