"""From a checkpoint to an artifact: what is written, and that nothing wrong is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the nets are torch modules")
onnx = pytest.importorskip("onnx", reason="graphs are written with it")

from edge.errors import ArtifactError, ConfigError, ShapeError, UsageError  # noqa: E402
from edge.hashing import sha256_of  # noqa: E402
from edge.manifest import read_manifest, verify  # noqa: E402
from export.mimi import export_mimi  # noqa: E402
from export.mimi_net import MimiDecoder, MimiEncoder  # noqa: E402
from export.mimi_random import random_weights, write_random_checkpoint  # noqa: E402
from export.parity import Parity, compare_mimi, require  # noqa: E402
from runtime.models.mimi import MimiCodec  # noqa: E402
from tests.export.mimi_models import TINY, tiny_artifact, write_config  # noqa: E402

N_CODEBOOKS = 5


def test_the_manifest_tells_all_of_the_artifact() -> None:
    artifact = tiny_artifact()
    manifest = read_manifest(artifact)
    verify(artifact, manifest)
    assert sorted(path.name for path in artifact.iterdir()) == [
        "decoder.onnx", "encoder.onnx", "manifest.toml",
    ]  # fmt: skip
    assert manifest.kind == "mimi"
    assert manifest.recipe.name == "float"
    assert manifest.config == {**TINY.as_dict(), "codebooks": N_CODEBOOKS}
    checkpoint = artifact.parent / "tiny.safetensors"
    assert [source.sha256 for source in manifest.sources] == [sha256_of(checkpoint)]
    for graph in manifest.graphs:
        kinds = {pair.input.split(".")[0]: pair.kind for pair in graph.states}
        assert kinds == {"state": "conv", "cache_k": "kv", "cache_v": "kv"}
        sizes = [size for spec in (*graph.inputs, *graph.outputs) for size in spec.shape]
        assert all(isinstance(size, int) for size in sizes)


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_graphs_hold_nothing_but_the_net(side: str) -> None:
    raw = (tiny_artifact() / f"{side}.onnx").read_bytes()
    model = onnx.load_from_string(raw)
    assert b".py" not in raw
    assert len(model.graph.value_info) == 0
    assert all(not node.doc_string and not node.metadata_props for node in model.graph.node)
    assert {entry.domain for entry in model.opset_import} == {""}
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"Conv", "ConvTranspose", "ScatterElements", "Sin", "Cos", "If", "Loop"}


def test_an_artifact_equals_its_nets_past_the_wrap() -> None:
    weights = random_weights(TINY, seed=3)
    nets = (MimiEncoder(weights, TINY, N_CODEBOOKS), MimiDecoder(weights, TINY, N_CODEBOOKS))
    seen = []
    parity = compare_mimi(
        MimiCodec(tiny_artifact()), *nets, on_frame=lambda done, total: seen.append((done, total))
    )
    assert parity.passed
    assert parity.equal == (1.0,) * N_CODEBOOKS
    assert parity.n_frames > 2 * TINY.context // TINY.n_positions
    assert seen == [(done, parity.n_frames) for done in range(1, parity.n_frames + 1)]
    require(parity, "tiny")


def test_an_artifact_of_other_weights_fails() -> None:
    weights = random_weights(TINY, seed=3)
    weights["decoder.model.0.conv.conv.bias"] += 0.01
    weights["encoder.model.0.conv.conv.weight"] *= 1.5
    nets = (MimiEncoder(weights, TINY, N_CODEBOOKS), MimiDecoder(weights, TINY, N_CODEBOOKS))
    parity = compare_mimi(MimiCodec(tiny_artifact()), *nets)
    assert not parity.passed
    assert len(parity.faults) == 2
    with pytest.raises(ArtifactError, match="nothing was written"):
        require(parity, "tiny")


@pytest.mark.parametrize("value", [float("nan"), 1e-4])
def test_no_number_that_is_not_small_passes(value: float) -> None:
    with pytest.raises(ArtifactError):
        require(Parity(1, (1.0,), value, 0.1, ("wave error",)), "tiny")


def test_wrong_input_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path / "a.safetensors", TINY, seed=1)
    checkpoint = tmp_path / "a.safetensors"
    config = write_config(tmp_path / "a.json", TINY)
    other = write_config(tmp_path / "b.json", replace(TINY, feedforward=64))
    out = tmp_path / "out"
    for n_codebooks in (0, 6):
        with pytest.raises(UsageError, match="codebooks must be 1 to 5"):
            export_mimi(checkpoint, out, config_file=config, n_codebooks=n_codebooks)
    with pytest.raises(ShapeError, match="misshapen"):
        export_mimi(checkpoint, out, config_file=other, n_codebooks=2)
    with pytest.raises(ShapeError, match="misshapen"):
        export_mimi(checkpoint, out)
    with pytest.raises(ConfigError):
        export_mimi(checkpoint, out, config_file=checkpoint)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.safetensors", "b.json"]


def test_a_folder_that_holds_something_is_not_replaced(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path / "a.safetensors", TINY, seed=1)
    config = write_config(tmp_path / "a.json", TINY)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep me", encoding="utf-8")
    with pytest.raises(UsageError, match="not empty"):
        export_mimi(tmp_path / "a.safetensors", tmp_path / "out", config_file=config, n_codebooks=2)
    assert (tmp_path / "out" / "mine.txt").read_text(encoding="utf-8") == "keep me"


def test_random_weights_make_a_codec_that_lives() -> None:
    codec = MimiCodec(tiny_artifact())
    state, codes, loud = codec.start(), set(), []
    rng = np.random.default_rng(0)
    for _ in range(20):
        state, found = codec.encode(state, (0.1 * rng.normal(size=1920)).astype(np.float32))
        state, pcm = codec.decode(state, found)
        codes.add(tuple(found))
        loud.append(float(pcm.std()))
    assert len(codes) > 15
    assert 0.005 < np.mean(loud) < 1
