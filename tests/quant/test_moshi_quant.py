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
from quant.onnx_matmul import dequantize_blocks, quantize_blocks
from quant.recipe import load_recipe
from quant.run import quantize
from quant.subject import open_subject
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


def test_recipes_by_name_run_and_the_smaller_the_further_away(tmp_path: Path) -> None:
    """The states of the main transformer under the same tokens, against the float model's."""
    source = export_model(tmp_path, WIDE, random_weights(WIDE, 1))
    codes = user_codes(WIDE, 6, 2)
    reference = hidden_states(MoshiModel(source), codes)
    sizes, likeness = [], {}
    for name in ("float", "transparent", "int8", "compact", "int4", "tiny"):
        made = quantize(open_subject(source), load_recipe(name), tmp_path / name)
        model = MoshiModel(made.directory)
        assert (made.recipe, model.recipe) == (name, name)
        assert model.spec.float_kv is (name == "float")
        sizes.append(made.size_bytes)
        likeness[name] = cosine(reference, hidden_states(model, codes))
    assert sizes == sorted(sizes, reverse=True)
    assert made.size_bytes_before == sizes[0]
    assert likeness["float"] == pytest.approx(1.0, abs=1e-6)
    assert likeness["int8"] > 0.995
    # 8 bits are nearer than 4; within a width the mix decides little.
    assert min(likeness["transparent"], likeness["int8"]) > max(
        likeness["compact"], likeness["int4"], likeness["tiny"]
    )
    assert min(likeness["compact"], likeness["int4"]) > 0.95


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
