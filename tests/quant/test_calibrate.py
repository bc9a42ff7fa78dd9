"""Calibration: sums are what really went in, merging is running both, other tools read the file."""

from __future__ import annotations

import ctypes
import importlib.util
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("onnx", reason="graphs are rewritten with it")
pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("llama_cpp", "torch", "gguf")),
    reason="needs llama-cpp-python, torch and gguf: pip install 'edgevoice[cascade,export]'",
)

from edge.errors import ArtifactError, ModelDamagedError, UsageError  # noqa: E402
from edge.manifest import read_manifest  # noqa: E402
from export.gguf_read import read_gguf  # noqa: E402
from quant.calibrate import calibrate, merge  # noqa: E402
from quant.calibration import Calibration, read_calibration, write_calibration  # noqa: E402
from quant.measure.speech import Speech, read_speech  # noqa: E402
from quant.onnx_matmul import dequantize_blocks, quantize_blocks  # noqa: E402
from quant.recipe import load_recipe, parse_recipe  # noqa: E402
from quant.run import calibration_speech, quantize  # noqa: E402
from quant.subject import Subject, check_lineage, open_subject  # noqa: E402
from quant.verifying import verify_round_trip  # noqa: E402
from runtime.backends.ggml import NAMES, Ggml  # noqa: E402
from runtime.models.moshi import MoshiModel  # noqa: E402
from tests.export.mimi_models import tiny_artifact  # noqa: E402
from tests.moshi_models import CONFIGS, export_model, random_weights  # noqa: E402
from tests.quant.test_measure import voice, write_clip  # noqa: E402

WIDE = CONFIGS["moshi"] | {
    "dim": 256, "num_heads": 4, "hidden_scale": 4.5, "depformer_dim": 64, "card": 64,
}  # fmt: skip
MIX = 'name = "m"\n[[moshi]]\nmatch = "temporal:.*"\nto = "q4_K_M"\nfallback = "q8_0"\n'


@pytest.fixture(scope="module")
def multistream(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    home = tmp_path_factory.mktemp("multistream")
    return open_subject(export_model(home, WIDE, random_weights(WIDE, 1)))


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Speech:
    folder = tmp_path_factory.mktemp("speech")
    for i in range(3):
        write_clip(folder / f"clip{i}.wav", voice(0.4, 24_000, 110 + 40 * i))
    return read_speech(folder)


@pytest.fixture(scope="module")
def matrix(multistream: Subject, speech: Speech, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("matrix") / "matrix.gguf"
    calibrate(multistream, speech, out, codec=tiny_artifact())
    return out


def some(speech: Speech, *names: str) -> Speech:
    return Speech(speech.folder, tuple(u for u in speech.utterances if u.name in names))


@pytest.mark.parametrize("kind", ["codec", "streams"])
def test_two_merged_are_one_over_both(
    kind: str, multistream: Subject, speech: Speech, tmp_path: Path
) -> None:
    subject = open_subject(tiny_artifact()) if kind == "codec" else multistream
    files = {
        "a": some(speech, "clip0", "clip2"), "b": some(speech, "clip1"), "both": speech,
    }  # fmt: skip
    for name, clips in files.items():
        calibrate(subject, clips, tmp_path / name, codec=tiny_artifact())
    merge([tmp_path / "b", tmp_path / "a"], tmp_path / "ab")
    assert (tmp_path / "ab").read_bytes() == (tmp_path / "both").read_bytes()
    with pytest.raises(UsageError, match="is in two of the calibrations"):
        merge([tmp_path / "a", tmp_path / "both"], tmp_path / "twice")
    assert not (tmp_path / "twice").exists()


def test_what_was_interrupted_goes_on_clip_by_clip(speech: Speech, tmp_path: Path) -> None:
    subject, out = open_subject(tiny_artifact()), tmp_path / "c.gguf"
    began = []

    def interrupted(_stage: str, done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt
        began.append(done)

    with pytest.raises(KeyboardInterrupt):
        calibrate(subject, speech, out, on_progress=interrupted)
    assert not out.exists()
    (part,) = tmp_path.iterdir()
    assert len(read_calibration(part).speech) == 2
    calibrate(subject, speech, out)
    calibrate(subject, speech, tmp_path / "whole.gguf")
    assert out.read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.gguf", "whole.gguf"]


def test_the_sums_are_of_what_the_weights_were_multiplied_with(multistream: Subject) -> None:
    """The text head's input is the hidden state that a step leaves, so that one can be checked."""
    seen = Calibration()
    model = MoshiModel(multistream.path, on_product=seen.add)
    state = model.start(seed=0)
    codes = np.random.default_rng(0).integers(0, 32, (7, model.spec.layout.n_user))
    hidden = []
    for frame in codes:
        state, _ = model.step(state, frame)
        hidden.append(state.hidden[0].copy())
    state.close()
    model.close()
    found = seen.seen["token_embd.weight"]
    want = np.array(hidden)
    assert found.n_rows == len(codes)
    np.testing.assert_allclose(found.sums, np.square(want).sum(axis=0), rtol=1e-5, atol=1e-8)
    assert (found.low, found.high) == pytest.approx((want.min(), want.max()))
    median = float(np.median(np.abs(want)))
    assert median / 1.2 <= found.size_at(0.5) <= median * 1.2
    assert {name for name in seen.seen if name.startswith("blk.1.")} == {
        f"blk.1.{one}.weight"
        for one in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    }


def test_the_depth_graph_is_watched_as_it_draws(
    multistream: Subject, matrix: Path, tmp_path: Path
) -> None:
    """The projections of the hidden state all meet the same rows, those that the heads met too."""
    seen = read_calibration(matrix).seen
    depth = [item.label for item in multistream.items if item.label.startswith("depth:matmul:")]
    assert depth
    assert set(depth) <= set(seen)
    taken = [label for label in depth if seen[label].sums.shape == (WIDE["dim"],)]
    head = seen["temporal:token_embd.weight"]
    assert taken
    for label in taken:
        assert seen[label].n_rows == head.n_rows
        np.testing.assert_allclose(seen[label].sums, head.sums, rtol=1e-5, atol=1e-8)
    text = 'name = "m"\n[[moshi]]\nmatch = "depth:.*"\nto = "w4"\nfallback = "float"\n'
    recipe = parse_recipe(text, Path("m"))
    quantize(multistream, recipe, tmp_path / "with", calibration=matrix)
    quantize(multistream, recipe, tmp_path / "without")
    one, two = ((tmp_path / name / "depth.onnx.data").read_bytes() for name in ("with", "without"))
    assert len(one) == len(two)
    assert one != two


def test_llama_cpps_own_quantizer_makes_the_same_bytes_of_it(
    multistream: Subject, matrix: Path, tmp_path: Path
) -> None:
    import llama_cpp

    source, theirs = multistream.path / "temporal.gguf", tmp_path / "theirs.gguf"
    given_sums = {
        tensor.name.removesuffix(".in_sum2"): tensor
        for tensor in read_gguf(matrix).tensors
        if tensor.name.endswith(".in_sum2")
    }
    counts = {t.name.removesuffix(".counts"): t for t in read_gguf(matrix).tensors}
    file, entries, kept = read_gguf(matrix), [], []
    for name, tensor in given_sums.items():
        sums = np.array(file.read(tensor, 4 * tensor.shape[-1])).view(np.float32)
        (n_rows,) = np.array(file.read(counts[name], 4)).view(np.float32)
        kept.append(np.ascontiguousarray(sums / n_rows))
        pointer = kept[-1].ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        entries.append((name.encode(), pointer, len(sums)))
    array = (llama_cpp.llama_model_imatrix_data * (len(entries) + 1))()
    for i, entry in enumerate(entries):
        array[i] = llama_cpp.llama_model_imatrix_data(*entry)
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M, 1
    params.imatrix = array
    code = llama_cpp.llama_model_quantize(bytes(source), bytes(theirs), ctypes.byref(params))
    assert code == 0
    recipe = parse_recipe(MIX, Path("m"))
    made = quantize(multistream, recipe, tmp_path / "ours", calibration=matrix)
    plain = quantize(multistream, recipe, tmp_path / "plain")
    ours, other = read_gguf(made.directory / "temporal.gguf"), read_gguf(theirs)
    without = read_gguf(plain.directory / "temporal.gguf")
    twins, ggml, n_changed = {t.name: t for t in other.tensors}, Ggml(), 0
    for tensor, bare in zip(ours.tensors, without.tensors, strict=True):
        if tensor.shape[-1] % 256:
            continue  # llama.cpp falls back to types of its own choice there
        kind = NAMES[tensor.ggml_type]
        n_bytes = ggml.row_bytes(kind, tensor.shape[-1]) * int(np.prod(tensor.shape[:-1]))
        mine = ours.read(tensor, n_bytes)
        np.testing.assert_array_equal(mine, other.read(twins[tensor.name], n_bytes))
        n_changed += not np.array_equal(mine, without.read(bare, n_bytes))
    assert n_changed > 10


def test_the_manifest_says_what_speech_it_was_and_lineage_does_not_come_of_it(
    multistream: Subject, speech: Speech, matrix: Path, tmp_path: Path
) -> None:
    recipe = parse_recipe(MIX, Path("m"))
    made = open_subject(
        quantize(multistream, recipe, tmp_path / "made", calibration=matrix).directory
    )
    assert calibration_speech(made) == {one.sha256: one.name for one in speech.utterances}
    assert calibration_speech(multistream) == {}
    check_lineage(multistream, made)
    assert not made.lineage & set(calibration_speech(made))
    found = verify_round_trip(made, multistream, recipe, calibration=matrix)
    assert found.same_bytes is True
    assert verify_round_trip(made, multistream, recipe).same_bytes is False
    files = [one.file for one in read_manifest(made.path).sources]
    assert "calibration/file" in files


@given(st.integers(1, 4), st.integers(1, 5), st.sampled_from([4, 8]), st.integers(0, 99))
def test_blocks_chosen_by_importance_cost_the_product_no_more(
    n_blocks: int, n_out: int, bits: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(n_out, 32 * n_blocks)).astype(np.float32)
    importance = rng.exponential(size=32 * n_blocks).astype(np.float32) ** 3
    plain, chosen = (
        dequantize_blocks(*quantize_blocks(weight, bits, importance=one), bits)
        for one in (None, importance)
    )
    costs = [float(((back - weight) ** 2 * importance).sum()) for back in (plain, chosen)]
    assert costs[1] <= costs[0] * (1 + 1e-5)


def test_a_codecs_blocks_follow_what_it_was_calibrated_with(speech: Speech, tmp_path: Path) -> None:
    codec = open_subject(tiny_artifact())
    calibrate(codec, speech, tmp_path / "c.gguf")
    text = 'name = "m"\n[[mimi]]\nmatch = ".*:matmul:.*"\nto = "w4f"\nfallback = "float"\n'
    recipe = parse_recipe(text, Path("m"))
    made = quantize(codec, recipe, tmp_path / "with", calibration=tmp_path / "c.gguf")
    bare = quantize(codec, recipe, tmp_path / "without")
    hashes = [
        {one.path: one.sha256 for one in read_manifest(folder.directory).files}
        for folder in (made, bare)
    ]
    assert all(hashes[0][name] != hashes[1][name] for name in ("encoder.onnx", "decoder.onnx"))
    assert made.size_bytes == bare.size_bytes


def test_llama_cpps_own_files_are_read(tmp_path: Path) -> None:
    values = np.arange(1, 5, dtype=np.float32)
    raw = struct.pack("<ii", 1, 3) + b"abc" + struct.pack("<ii", 2, 4) + values.tobytes()
    (tmp_path / "old.dat").write_bytes(raw)
    np.testing.assert_array_equal(
        read_calibration(tmp_path / "old.dat").importance["abc"], values / 2
    )
    (tmp_path / "cut.dat").write_bytes(raw[:-3])
    with pytest.raises(ModelDamagedError, match="no whole importance matrix"):
        read_calibration(tmp_path / "cut.dat")


def test_what_cannot_be_used_is_refused_in_one_line(
    multistream: Subject, speech: Speech, matrix: Path, tmp_path: Path
) -> None:
    codec, recipe = open_subject(tiny_artifact()), load_recipe("int4")

    def refuse(kind: type[Exception], said: str, **given: Any) -> None:
        with pytest.raises(kind, match=said) as caught:
            quantize(multistream, given.pop("recipe", recipe), tmp_path / "x", **given)
        assert "\n" not in str(caught.value)

    refuse(UsageError, "is not there", calibration=tmp_path / "none")
    refuse(UsageError, "is a model", calibration=multistream.path / "temporal.gguf")
    (tmp_path / "cut.gguf").write_bytes(matrix.read_bytes()[:3000])
    refuse(ModelDamagedError, "not a whole GGUF|no whole cal", calibration=tmp_path / "cut.gguf")
    calibrate(codec, speech, tmp_path / "codec.gguf")
    refuse(UsageError, "is of another model", calibration=tmp_path / "codec.gguf")
    strange = Calibration()
    strange.add("blk.0.attn_q.weight", np.ones((2, 64), np.float32))
    write_calibration(tmp_path / "strange.gguf", strange)
    refuse(UsageError, "has 64 inputs there and 256", calibration=tmp_path / "strange.gguf")
    wants = parse_recipe('calibration = "required"\n' + MIX, Path("m"))
    refuse(UsageError, "wants a calibration", recipe=wants)
    never = parse_recipe('calibration = "none"\n' + MIX, Path("m"))
    refuse(UsageError, "leave it out", recipe=never, calibration=matrix)
    with pytest.raises(UsageError, match="is there already"):
        calibrate(codec, speech, matrix)
    small = quantize(codec, load_recipe("tiny"), tmp_path / "small").directory
    with pytest.raises(ArtifactError, match="is tiny already"):
        calibrate(open_subject(small), speech, tmp_path / "y.gguf")
    with pytest.raises(UsageError, match="give what makes them with --codec"):
        calibrate(multistream, speech, tmp_path / "y.gguf")
    (tmp_path / "silent").mkdir()
    write_clip(tmp_path / "silent" / "still.wav", np.zeros(24_000, np.float32))
    with pytest.raises(UsageError, match="silent or clipped"):
        calibrate(codec, read_speech(tmp_path / "silent"), tmp_path / "y.gguf")
