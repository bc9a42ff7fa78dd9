"""Smaller codecs: the arithmetic of each scheme, and what a preset may and may not touch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the artifact of these tests is exported with it")
onnx = pytest.importorskip("onnx", reason="graphs are rewritten with it")

from edge.errors import ArtifactError, UsageError  # noqa: E402
from edge.manifest import read_manifest, verify  # noqa: E402
from quant.mimi_compare import compare_codecs  # noqa: E402
from quant.onnx_codebooks import two_stage_search  # noqa: E402
from quant.onnx_matmul import BLOCK, dequantize_blocks  # noqa: E402
from quant.onnx_presets import PRESETS, scheme_for  # noqa: E402
from quant.onnx_products import (  # noqa: E402
    GraphEditor,
    Product,
    pack_q4,
    quantize_columns,
    to_q4,
    to_u8,
    to_u8x16,
)
from quant.recipe import load_recipe  # noqa: E402
from quant.run import quantize  # noqa: E402
from quant.subject import open_subject  # noqa: E402
from runtime.backends.ort import open_session  # noqa: E402
from runtime.models.mimi import MimiCodec  # noqa: E402
from runtime.models.mimi_probe import probe_sound  # noqa: E402
from tests.export.mimi_models import tiny_artifact  # noqa: E402

FRAMES = probe_sound(20, seed=0)


@pytest.fixture(scope="module")
def presets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("presets")
    codec = open_subject(tiny_artifact())
    return {name: quantize(codec, load_recipe(name), home / name).directory for name in PRESETS}


def _product(rows: int, n_in: int, n_out: int, *, bias: bool, seed: int) -> tuple[Any, Any, Any]:
    """A model of x @ w (+ b), and w and b."""
    helper, rng = onnx.helper, np.random.default_rng(seed)
    weight = rng.normal(size=(n_in, n_out)).astype(np.float32)
    offset = rng.normal(size=n_out).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["xw" if bias else "y"], "product")]
    constants = [onnx.numpy_helper.from_array(weight, "w")]
    if bias:
        nodes.append(helper.make_node("Add", ["xw", "b"], ["y"], "bias"))
        constants.append(onnx.numpy_helper.from_array(offset, "b"))
    real = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", real, [rows, n_in])],
        [helper.make_tensor_value_info("y", real, [rows, n_out])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model, weight, offset if bias else np.zeros(n_out, np.float32)


def _run(model: Any, scheme: Any, x: Any) -> tuple[Any, dict[str, str]]:
    editor = GraphEditor(model)
    (found,) = editor.products()
    assert found[0].rows == len(x)
    scheme(editor, *found)
    session = open_session(editor.finish().SerializeToString(), name="product")
    return session.run({"x": x})["y"], editor.what


@given(st.integers(1, 90), st.integers(1, 9), st.integers(0, 1000))
def test_columns_are_rounded_by_half_a_step_at_most(n_in: int, n_out: int, seed: int) -> None:
    weight = np.random.default_rng(seed).normal(size=(n_in, n_out)).astype(np.float32)
    weight[:, 0] = 0
    steps, scale = quantize_columns(weight)
    back = (steps.astype(np.float32) - 128) * scale
    assert (np.abs(back - weight) <= scale * 0.5001).all()
    assert steps.min() >= 1


@given(st.integers(1, 90), st.integers(1, 9), st.integers(0, 1000))
def test_blocks_are_rounded_by_one_step_at_most(n_in: int, n_out: int, seed: int) -> None:
    weight = np.random.default_rng(seed).normal(size=(n_in, n_out)).astype(np.float32)
    packed, scale = pack_q4(weight)
    back = dequantize_blocks(packed, scale, 4)[:, :n_in].T
    limit = np.repeat(np.abs(scale).reshape(n_out, -1), BLOCK, 1)[:, :n_in].T
    assert (np.abs(back - weight) <= limit * 1.0001).all()


@pytest.mark.parametrize("bias", [True, False])
def test_unsigned_weights_do_not_saturate(bias: bool) -> None:
    """Everything as large as it gets: where pairs are added in 16 bits this is far off."""
    model, weight, offset = _product(2, 256, 32, bias=bias, seed=1)
    weight[:] = np.sign(weight)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.abs(weight), "w"))
    x = np.full((2, 256), 3.0, np.float32)
    got, what = _run(model, to_u8, x)
    np.testing.assert_allclose(got, 3.0 * 256 + offset[None].repeat(2, 0), rtol=0.01)
    assert what == {"w": "u8"}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("seed", [1, 2])
def test_two_limbs_leave_only_the_error_of_the_weights(bias: bool, seed: int) -> None:
    model, weight, offset = _product(3, 128, 48, bias=bias, seed=seed)
    x = np.random.default_rng(seed).normal(size=(3, 128)).astype(np.float32)
    x[0] *= 1e-3  # a quiet row beside loud ones, as a pause in a frame
    steps, scale = quantize_columns(weight)
    want = x @ ((steps.astype(np.float32) - 128) * scale) + offset
    got, _ = _run(model, to_u8x16, x)
    model, _, _ = _product(3, 128, 48, bias=bias, seed=seed)
    coarse, _ = _run(model, to_u8, x)
    assert np.abs(got - want).max() < 2e-3
    assert np.abs(coarse - want).max() > 20 * np.abs(got - want).max()


def test_two_limbs_of_silence_are_silence() -> None:
    model, _, offset = _product(2, 64, 16, bias=True, seed=5)
    got, _ = _run(model, to_u8x16, np.zeros((2, 64), np.float32))
    np.testing.assert_array_equal(got, offset[None].repeat(2, 0))


@pytest.mark.parametrize("float_activations", [True, False])
def test_four_bits_are_what_the_packing_says(float_activations: bool) -> None:
    model, weight, _ = _product(2, 96, 16, bias=False, seed=6)
    dense = dequantize_blocks(*pack_q4(weight), 4)[:, :96].T
    x = np.random.default_rng(7).normal(size=(2, 96)).astype(np.float32)
    got, what = _run(model, to_q4(float_activations=float_activations), x)
    assert np.abs(got - x @ dense).max() < (1e-4 if float_activations else 0.5)
    assert what == {"w": "q4"}


def test_two_stages_find_the_nearest_entry(tmp_path: Path) -> None:
    editor = GraphEditor(onnx.load(str(tiny_artifact() / "encoder.onnx")))
    two_stage_search(editor, half=False)
    assert sorted(editor.what.values()) == ["u8+f32"] * 5
    onnx.save(editor.finish(), str(tmp_path / "encoder.onnx"))
    exact = open_session(tiny_artifact() / "encoder.onnx")
    staged = open_session(tmp_path / "encoder.onnx")
    rng = np.random.default_rng(0)
    for _ in range(20):
        feeds = {
            name: rng.normal(size=info.shape).astype(np.float32)  # type: ignore[arg-type]
            for name, info in exact.inputs.items()
        }
        np.testing.assert_array_equal(exact.run(feeds)["codes"], staged.run(feeds)["codes"])


def test_presets_get_smaller_and_say_what_they_are(presets: dict[str, Path]) -> None:
    sizes = []
    for name, directory in presets.items():
        manifest = read_manifest(directory)
        verify(directory, manifest)
        assert manifest.recipe.name == name
        ours = read_manifest(tiny_artifact())
        assert set(ours.sources) < set(manifest.sources)
        assert bool(manifest.recipe.tensors) == (name != "float")
        sizes.append(sum(record.size_bytes for record in manifest.files))
    assert sizes[0] > sizes[1] > sizes[2] > sizes[3]


def test_precision_falls_in_order(presets: dict[str, Path]) -> None:
    reference = MimiCodec(tiny_artifact())
    found = {
        name: compare_codecs(reference, MimiCodec(directory), FRAMES)
        for name, directory in presets.items()
    }
    assert found["float"].equal == (1.0,) * 5
    assert found["float"].snr_db == np.inf
    assert found["transparent"].equal[0] >= 0.9
    assert found["transparent"].snr_db > found["int8"].snr_db > found["tiny"].snr_db > 5
    assert found["int8"].snr_db > 30


@pytest.mark.parametrize("preset", ["transparent", "int8", "tiny"])
def test_a_decoders_convolutions_never_get_8_bit_activations(
    presets: dict[str, Path], preset: str
) -> None:
    model = onnx.load(str(presets[preset] / "decoder.onnx"))
    rounding = {
        node.input[1]
        for node in model.graph.node
        if node.op_type == "DynamicQuantizeMatMul"
        or (node.op_type == "MatMulNBits" and _accuracy_level(node) == 4)
    }
    assert all(name.startswith("decoder_transformer.") for name in rounding)
    assert rounding


def _accuracy_level(node: Any) -> int:
    return next(int(a.i) for a in node.attribute if a.name == "accuracy_level")


def test_only_what_waits_for_memory_gets_limbs() -> None:
    def scheme(n_in: int, n_out: int, rows: int) -> object:
        return scheme_for("int8", "decoder", Product("decoder.2.weight", (n_in, n_out), rows))

    assert scheme(2048, 4096, 2) is to_u8x16
    assert scheme(1024, 1536, 16) is None
    assert scheme(256, 512, 1) is None


def test_small_products_stay_float() -> None:
    for recipe in PRESETS:
        assert scheme_for(recipe, "encoder", Product("encoder.0.weight", (7, 64), 1920)) is None
        assert scheme_for(recipe, "decoder", Product("decoder.14.weight", (64, 3), 1920)) is None
        turn = Product("decoder_transformer.turn", (64, 64), 32)
        assert scheme_for(recipe, "decoder", turn) is None


def test_only_a_whole_float_codec_is_quantized(presets: dict[str, Path], tmp_path: Path) -> None:
    codec = open_subject(tiny_artifact())
    with pytest.raises(ArtifactError, match="int8 already"):
        quantize(open_subject(presets["int8"]), load_recipe("tiny"), tmp_path / "out")
    with pytest.raises(ArtifactError, match="manifest"):
        open_subject(tmp_path)
    with pytest.raises(UsageError, match="not empty"):
        quantize(codec, load_recipe("int8"), presets["tiny"])
    assert list(tmp_path.iterdir()) == []
