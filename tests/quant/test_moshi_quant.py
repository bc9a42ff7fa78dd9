"""Smaller weights of a multistream model: blocks, GGUF types, the depth graph's matrices."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from edge.errors import ModelDamagedError, UsageError
from export.gguf import float_tensor, write_gguf
from export.gguf_read import read_gguf
from quant.gguf import quantize_gguf
from quant.moshi import RECIPES, MoshiRecipe, quantize_moshi, quantize_named, type_of
from quant.onnx_matmul import dequantize_blocks, quantize_blocks
from runtime.models.moshi import MoshiModel
from tests.moshi_models import CONFIGS, export_model, random_weights, user_codes

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("llama_cpp", "onnx", "gguf")),
    reason="needs llama-cpp-python, onnx and gguf: pip install 'edgevoice[cascade,quant]'",
)
# Wide enough for K-quants.
WIDE = CONFIGS["moshi"] | {"dim": 256, "num_heads": 4, "hidden_scale": 4.5, "depformer_dim": 64}


@pytest.mark.parametrize("bits", [4, 8])
def test_no_weight_is_off_by_more_than_a_step(bits: int) -> None:
    weight = np.random.default_rng(0).standard_normal((24, 96)).astype(np.float32)
    weight[3, :32] = 0
    packed, scales = quantize_blocks(weight, bits)
    back = dequantize_blocks(packed, scales, bits)
    steps = np.abs(scales).reshape(24, 3).repeat(32, axis=1)
    # Half a step, and a whole one at the end of the range opposite to the largest value.
    assert (np.abs(back - weight) <= steps * 1.0001).all()
    assert (np.abs(back - weight) <= steps * 0.5001).mean() > 0.9
    largest = np.abs(weight.reshape(24, 3, 32)).argmax(axis=2)
    met = np.take_along_axis(back.reshape(24, 3, 32), largest[..., None], axis=2)
    there = np.take_along_axis(weight.reshape(24, 3, 32), largest[..., None], axis=2)
    np.testing.assert_allclose(met, there, rtol=1e-6)
    assert (back[3, :32] == 0).all()


def test_blocks_are_those_of_the_format(tmp_path: Path) -> None:
    """Read back with the format's own Python package."""
    import gguf

    rng = np.random.default_rng(0)
    arrays = {
        "blk.0.ffn_up.weight": rng.standard_normal((40, 512)).astype(np.float32),
        "blk.0.ffn_down.weight": rng.standard_normal((64, 96)).astype(np.float32),
        "output_norm.weight": rng.standard_normal(512).astype(np.float32),
    }
    tensors = [float_tensor(n, a.shape, "F32", lambda a=a: a) for n, a in arrays.items()]
    write_gguf(
        tmp_path / "float.gguf",
        {"general.architecture": "llama", "general.file_type": 0, "some.flag": True},
        tensors,
        source="test",
    )
    kinds = quantize_gguf(tmp_path / "float.gguf", tmp_path / "q.gguf", lambda _: "q4_K", threads=2)
    assert list(kinds.values()) == ["q4_K", "q8_0", "f32"]
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "q.gguf").tensors}
    for name, limit in (("blk.0.ffn_up.weight", 0.11), ("blk.0.ffn_down.weight", 0.011)):
        back = gguf.dequantize(stored[name].data, stored[name].tensor_type)
        error = np.sqrt(np.mean((back - arrays[name]) ** 2))
        assert 0 < error < limit
    np.testing.assert_array_equal(stored["output_norm.weight"].data, arrays["output_norm.weight"])
    assert read_gguf(tmp_path / "q.gguf").numbers["general.file_type"] in (7, 15)
    with pytest.raises(UsageError, match="already"):
        quantize_gguf(tmp_path / "q.gguf", tmp_path / "again.gguf", lambda _: "q4_0")
    raw = (tmp_path / "q.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(raw[:60])
    with pytest.raises(ModelDamagedError, match="whole GGUF"):
        read_gguf(tmp_path / "cut.gguf")


def test_a_quantized_model_runs_and_stays_close(tmp_path: Path) -> None:
    source = export_model(tmp_path, WIDE, random_weights(WIDE, 1))
    codes = user_codes(WIDE, 8, 2)
    reference = hidden_states(MoshiModel(source), codes)
    likeness = {}
    for name, recipe in {
        "int8": MoshiRecipe("q8_0", "q8_0", 8, 8),
        "int4": MoshiRecipe("q4_K", "q6_K", 4, 8),
    }.items():
        out = quantize_moshi(source, tmp_path / name, recipe, name=name)
        model = MoshiModel(out)
        assert model.spec.float_kv is False
        likeness[name] = cosine(reference, hidden_states(model, codes))
        small = sum(path.stat().st_size for path in out.iterdir())
        assert small < 0.6 * sum(path.stat().st_size for path in source.iterdir())
    assert likeness["int8"] > 0.995
    assert likeness["int8"] > likeness["int4"] > 0.95


def test_the_medium_mix_is_that_of_llama_cpp() -> None:
    chosen = type_of(RECIPES["compact"], 32)
    assert chosen("token_embd.weight") == "q6_K"
    assert chosen("blk.5.attn_q.weight") == "q4_K"
    more = {layer for layer in range(32) if chosen(f"blk.{layer}.ffn_down.weight") == "q6_K"}
    assert more == {0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31}


def test_recipes_by_name_run_and_the_smaller_the_further_away(tmp_path: Path) -> None:
    source = export_model(tmp_path, WIDE, random_weights(WIDE, 1))
    codes = user_codes(WIDE, 6, 2)
    reference = hidden_states(MoshiModel(source), codes)
    sizes, likeness = [], []
    for name in ("float", "transparent", "int8", "compact", "int4", "tiny"):
        made = quantize_named(source, name, tmp_path / name)
        model = MoshiModel(made.directory)
        assert (made.recipe, model.recipe) == (name, name)
        sizes.append(made.size_bytes)
        likeness.append(cosine(reference, hidden_states(model, codes)))
    assert sizes == sorted(sizes, reverse=True)
    assert made.size_bytes_before == sizes[0]
    assert likeness[0] == pytest.approx(1.0, abs=1e-6)
    # 8 bits are nearer than 4, and 4 nearer than 3; within a width the mix decides little.
    assert min(likeness[:3]) > max(likeness[3:5])
    assert min(likeness[3:5]) > likeness[5]
    with pytest.raises(UsageError, match="unknown recipe"):
        quantize_named(source, "best", tmp_path / "best")
    with pytest.raises(UsageError, match="float"):
        quantize_named(tmp_path / "int8", "int4", tmp_path / "twice")
    assert not (tmp_path / "best").exists()
    assert not (tmp_path / "twice").exists()


def hidden_states(model: MoshiModel, codes: np.ndarray) -> np.ndarray:
    state = model.start(seed=0, greedy=True)
    rows = []
    for frame in codes:
        state.line.write_user(frame)
        model.run_temporal(state, state.line.model_input())
        rows.append(state.hidden[0].copy())
        # The same tokens whatever a model would have said.
        state.line.write_generated(5, np.array([1, 2, 3, 4]))
    state.close()
    return np.array(rows)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))
