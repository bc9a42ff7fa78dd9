"""From checkpoint to artifact: every spelling, bad input, interrupts."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import ArtifactError, ConfigError, EdgeError, ShapeError, UsageError
from edge.manifest import read_manifest
from edge.safetensors import SafetensorsFile, from_float32, to_float32
from export import moshi as export_module
from export.moshi import ExportOptions, export_moshi
from export.moshi_checkpoint import MoshiCheckpoint
from tests.moshi_models import (
    CONFIGS,
    by_slices,
    export_model,
    first_slices,
    old_names,
    random_weights,
    sparse_checkpoint,
    write_safetensors,
)

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("onnx") is None, reason="needs onnx: pip install 'edgevoice[export]'"
)

RAW = CONFIGS["moshi"]
Weights = dict[str, NDArray[np.float32]]


def hashes(folder: Path) -> dict[str, str]:
    return {record.path: record.sha256 for record in read_manifest(folder).files}


def weights() -> Weights:
    return random_weights(RAW, 1)


def refusal(tmp_path: Path, tensors: Weights, kind: type[EdgeError]) -> str:
    """What the export says when it fails: one line, and nothing is left at its target."""
    with pytest.raises(kind) as failure:
        export_model(tmp_path, RAW, tensors)
    assert "\n" not in str(failure.value)
    assert not (tmp_path / "artifact").exists()
    return str(failure.value)


def test_old_and_new_names_give_the_same_artifact(tmp_path: Path) -> None:
    new = export_model(tmp_path / "new", RAW, weights())
    old = export_model(tmp_path / "old", RAW, old_names(weights()))
    assert hashes(new) == hashes(old)


@pytest.mark.parametrize("mlx", [False, True])
@pytest.mark.parametrize("name", ["moshi", "hibiki"])
def test_files_made_for_candle_and_mlx_give_the_same_artifact(
    tmp_path: Path, name: str, mlx: bool
) -> None:
    raw = CONFIGS[name]
    tensors = random_weights(raw, 1)
    official = export_model(tmp_path / "official", raw, tensors)
    other = export_model(tmp_path / "other", raw, by_slices(tensors, raw, mlx=mlx))
    assert hashes(other) == hashes(official)


def test_a_slice_that_is_missing_is_named(tmp_path: Path) -> None:
    tensors = by_slices(weights(), RAW, mlx=False)
    del tensors["depformer.2.transformer.layers.1.gating.linear_in.weight"]
    said = refusal(tmp_path, tensors, ShapeError)
    assert "1 missing (depformer.layers.1.gating.2.linear_in" in said


def test_user_slices_are_dropped_and_can_be_kept(tmp_path: Path) -> None:
    raw = CONFIGS["personaplex"]
    tensors = random_weights(raw, 1)
    dropped = export_model(tmp_path / "dropped", raw, tensors)
    moshi = export_model(
        tmp_path / "moshi", {**raw, "model_type": "moshi", "dep_q": 4}, first_slices(tensors, 4)
    )
    assert hashes(dropped) == hashes(moshi)
    options = ExportOptions(
        tmp_path / "dropped" / "model.safetensors",
        tmp_path / "dropped" / "config.json",
        keep_user_slices=True,
    )
    kept = read_manifest(export_moshi(options, tmp_path / "kept"))
    assert kept.config["depth_steps"] == 8
    assert kept.config["n_own"] == 4


def test_a_published_checkpoint_needs_no_config(tmp_path: Path) -> None:
    """Sizes come from the shapes; heads are as wide as in the published models."""
    raw = {**RAW, "dim": 256, "num_heads": 2, "depformer_dim": 128, "context": 3000}
    with_config = export_model(tmp_path / "with", raw, random_weights(raw, 1))
    checkpoint = tmp_path / "with" / "model.safetensors"
    without = export_moshi(ExportOptions(checkpoint), tmp_path / "without")
    assert hashes(with_config) == hashes(without)
    assert read_manifest(with_config).config == read_manifest(without).config


def test_low_rank_updates_are_merged(tmp_path: Path) -> None:
    raw = {**RAW, "lora": True, "lora_rank": 3, "lora_scaling": 2.0}
    base, rng = weights(), np.random.default_rng(3)
    low: Weights = {}
    merged = dict(base)
    for name in ("transformer.layers.1.self_attn.in_projs.0", "linears.2", "text_linear"):
        n_out, n_in = base[f"{name}.weight"].shape
        low[f"{name}.lora_A.weight"] = rng.standard_normal((3, n_in), np.float32)
        low[f"{name}.lora_B.weight"] = rng.standard_normal((n_out, 3), np.float32)
        update = low[f"{name}.lora_B.weight"] @ low[f"{name}.lora_A.weight"]
        merged[f"{name}.weight"] = base[f"{name}.weight"] + np.float32(2) * update
    path = write_safetensors(tmp_path / "base.safetensors", base)
    lora = write_safetensors(tmp_path / "lora.safetensors", low)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(raw))
    out = export_moshi(ExportOptions(path, config, lora=lora), tmp_path / "out")
    assert hashes(out) == hashes(export_model(tmp_path / "merged", RAW, merged))
    low.pop("linears.2.lora_B.weight")
    write_safetensors(lora, low)
    with pytest.raises(ShapeError, match="without its partner"):
        export_moshi(ExportOptions(path, config, lora=lora), tmp_path / "bad")


def test_half_precision_checkpoints_keep_their_bits(tmp_path: Path) -> None:
    rounded = {name: from_float32(array, "BF16") for name, array in weights().items()}
    path = write_safetensors(tmp_path / "bf16.safetensors", rounded, dtype="BF16")
    config = tmp_path / "config.json"
    config.write_text(json.dumps(RAW))
    out = export_moshi(ExportOptions(path, config), tmp_path / "out")
    table = np.load(out / "text_embedding.npy")
    np.testing.assert_array_equal(table, rounded["text_emb.weight"])
    assert read_manifest(out).config["table_dtype"] == "BF16"


def test_bfloat16_is_rounded_to_nearest_even() -> None:
    values = np.random.default_rng(0).standard_normal(10_000).astype(np.float32) * 1e3
    ties = (np.arange(0x3F80, 0x3F90, dtype=np.uint32) << 16) + 0x8000
    values[:16] = ties.view(np.float32)
    below = to_float32((values.view(np.uint32) >> 16).astype(np.uint16), "BF16")
    above = to_float32(((values.view(np.uint32) >> 16) + 1).astype(np.uint16), "BF16")
    away = np.abs(values - below), np.abs(above - values)
    even = (values.view(np.uint32) >> 16) % 2 == 0
    nearest = np.where((away[0] < away[1]) | ((away[0] == away[1]) & even), below, above)
    np.testing.assert_array_equal(to_float32(from_float32(values, "BF16"), "BF16"), nearest)
    special = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0], np.float32)
    np.testing.assert_array_equal(to_float32(from_float32(special, "BF16"), "BF16"), special)


def test_a_missing_a_surplus_and_a_misshapen_tensor_are_named(tmp_path: Path) -> None:
    tensors = weights()
    tensors["surprise.weight"] = tensors.pop("out_norm.alpha")
    tensors["linears.0.weight"] = tensors["linears.0.weight"][:, :-1]
    said = refusal(tmp_path, tensors, ShapeError)
    assert "1 missing (out_norm.alpha); 1 surplus (surprise.weight); 1 misshapen (linears.0" in said


def test_a_feed_forward_that_does_not_fit_itself_is_named(tmp_path: Path) -> None:
    tensors = weights()
    name = "transformer.layers.0.gating.linear_in.weight"
    tensors[name] = tensors[name][:-2]
    assert name in refusal(tmp_path, tensors, ShapeError)


def test_another_model_family_is_told_apart(tmp_path: Path) -> None:
    tensors = {"model.layers.0.self_attn.q_proj.weight": np.zeros((4, 4), np.float32)}
    assert "no Moshi model" in refusal(tmp_path, tensors, ArtifactError)


@pytest.mark.parametrize("dtype", ["I8", "F8_E4M3"])
def test_quantized_tensors_are_refused(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "model.safetensors"
    write_safetensors(path, weights())
    raw = path.read_bytes()
    n_bytes = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + n_bytes])
    header["text_linear.weight"]["dtype"] = dtype
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + n_bytes :])
    config = tmp_path / "config.json"
    config.write_text(json.dumps(RAW))
    with pytest.raises(ArtifactError, match=f"text_linear.weight is {dtype}"):
        export_moshi(ExportOptions(path, config), tmp_path / "artifact")


@pytest.mark.parametrize("keep", [0, 5, 8, 300, -100])
def test_a_truncated_checkpoint_is_told_at_once(tmp_path: Path, keep: int) -> None:
    path = write_safetensors(tmp_path / "model.safetensors", weights())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ArtifactError, match="not a whole safetensors file"):
        SafetensorsFile(path)


def test_a_tokenizer_of_another_size_is_refused(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    sentences = iter(["the cat sat on the mat", "a dog and a bird", "never odd or even"] * 9)
    with (tmp_path / "small.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sentences, model_writer=file, vocab_size=24, minloglevel=2
        )
    path = write_safetensors(tmp_path / "model.safetensors", weights())
    config = tmp_path / "config.json"
    config.write_text(json.dumps(RAW))
    options = ExportOptions(path, config, tmp_path / "small.model")
    with pytest.raises(ConfigError, match="24 pieces for a model of 47"):
        export_moshi(options, tmp_path / "artifact")
    with pytest.raises(ConfigError, match="not a SentencePiece model"):
        export_moshi(ExportOptions(path, config, config), tmp_path / "artifact")


def test_an_interrupted_export_goes_on_and_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = export_model(tmp_path / "whole", RAW, weights())
    folder = tmp_path / "cut"
    folder.mkdir()
    path = write_safetensors(folder / "model.safetensors", weights())
    config = folder / "config.json"
    config.write_text(json.dumps(RAW))
    options = ExportOptions(path, config)

    class PulledPlugError(Exception):
        pass

    for n_writes in (1, 4, 9, 15):
        seen = 0

        def stop_after(_name: str, _done: int, _total: int, limit: int = n_writes) -> None:
            nonlocal seen
            seen += 1
            if seen == limit:
                raise PulledPlugError

        with pytest.raises(PulledPlugError):
            export_moshi(options, folder / "artifact", stop_after)
        assert not (folder / "artifact").exists()
    written: list[str] = []
    real = export_module.export_depth
    monkeypatch.setattr(
        export_module, "export_depth", lambda *a, **k: written.append("depth") or real(*a, **k)
    )
    export_moshi(options, folder / "artifact")
    assert written == []  # it was whole already
    assert hashes(folder / "artifact") == hashes(whole)
    assert sorted(p.name for p in folder.iterdir()) == [
        "artifact", "config.json", "model.safetensors",
    ]  # fmt: skip


# Run in a process of its own: kills itself in the middle, or tells its peak of anonymous memory.
_CHILD = """
import os, signal, sys
from pathlib import Path
from export.moshi import ExportOptions, export_moshi

folder, limit = Path(sys.argv[1]), int(sys.argv[2])
peak = seen = 0

def anonymous_kb():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))

def watch(_name, _done, _total):
    global peak, seen
    peak, seen = max(peak, anonymous_kb()), seen + 1
    if seen == limit:
        os.kill(os.getpid(), signal.SIGKILL)

options = ExportOptions(folder / "model.safetensors", folder / "config.json")
before = anonymous_kb()
export_moshi(options, folder / "artifact", watch)
print(peak - before)
"""


def child(folder: Path, limit: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _CHILD, str(folder), str(limit)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_a_killed_export_leaves_nothing_and_the_next_one_ends_it(tmp_path: Path) -> None:
    whole = export_model(tmp_path / "whole", RAW, weights())
    folder = tmp_path / "killed"
    folder.mkdir()
    write_safetensors(folder / "model.safetensors", weights())
    (folder / "config.json").write_text(json.dumps(RAW))
    assert child(folder, 8).returncode == -signal.SIGKILL
    assert not (folder / "artifact").exists()
    done = child(folder, 0)
    assert done.returncode == 0, done.stderr
    assert hashes(folder / "artifact") == hashes(whole)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_bounded_by_the_largest_tensor_not_by_the_checkpoint(tmp_path: Path) -> None:
    raw = RAW | {
        "dim": 512, "num_heads": 8, "num_layers": 24, "text_card": 8000, "depformer_dim": 256,
    }  # fmt: skip
    largest = sparse_checkpoint(tmp_path / "model.safetensors", raw, hidden=1408, depth_hidden=704)
    assert (tmp_path / "model.safetensors").stat().st_size > 16 * largest
    (tmp_path / "config.json").write_text(json.dumps(raw))
    done = child(tmp_path, 0)
    assert done.returncode == 0, done.stderr
    # As float32, once more as a copy, and what libraries take for themselves when first used.
    assert int(done.stdout) * 1024 < 4 * largest + (48 << 20)


def test_what_another_checkpoint_left_is_not_taken_up(tmp_path: Path) -> None:
    def stop(name: str, _done: int, _total: int) -> None:
        if name == "blk.0.attn_q.weight":
            raise KeyboardInterrupt

    path = write_safetensors(tmp_path / "model.safetensors", weights())
    config = tmp_path / "config.json"
    config.write_text(json.dumps(RAW))
    with pytest.raises(KeyboardInterrupt):
        export_moshi(ExportOptions(path, config), tmp_path / "artifact", stop)
    write_safetensors(path, random_weights(RAW, 2))
    out = export_moshi(ExportOptions(path, config), tmp_path / "artifact")
    other = export_model(tmp_path / "other", RAW, random_weights(RAW, 2))
    assert hashes(out) == hashes(other)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    out = export_model(tmp_path, RAW, weights())
    before = hashlib.sha256((out / "manifest.toml").read_bytes()).digest()
    with pytest.raises(UsageError, match="exists already"):
        export_model(tmp_path, RAW, weights())
    assert hashlib.sha256((out / "manifest.toml").read_bytes()).digest() == before


def test_one_tensor_may_not_come_under_two_names(tmp_path: Path) -> None:
    tensors = weights()
    tensors["transformer.layers.0.self_attn.in_proj_weight"] = tensors[
        "transformer.layers.0.self_attn.in_projs.0.weight"
    ]
    path = write_safetensors(tmp_path / "model.safetensors", tensors)
    with pytest.raises(ArtifactError, match="second spelling"):
        MoshiCheckpoint(path, RAW)
