"""Quantizing whole models: order of damage, same bytes, what a kill leaves, what is refused."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="graphs are rewritten with it")
pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("llama_cpp", "torch", "gguf")),
    reason="needs llama-cpp-python, torch and gguf: pip install 'edgevoice[cascade,export]'",
)

from edge.errors import ArtifactError, UsageError  # noqa: E402
from edge.manifest import read_manifest  # noqa: E402
from quant.inspect import inspect  # noqa: E402
from quant.onnx_lift import lift  # noqa: E402
from quant.planning import Target, best, forecasts  # noqa: E402
from quant.recipe import BUILT_IN, load_recipe, parse_recipe  # noqa: E402
from quant.resolve import resolve  # noqa: E402
from quant.run import lift_model, quantize  # noqa: E402
from quant.subject import Subject, check_lineage, open_subject  # noqa: E402
from quant.values import Values, sqnr_db  # noqa: E402
from quant.verifying import verify_round_trip  # noqa: E402
from runtime.backends.ort import open_session  # noqa: E402
from tests.export.mimi_models import tiny_artifact  # noqa: E402
from tests.moshi_models import CONFIGS, export_model, random_weights  # noqa: E402

WIDE = CONFIGS["moshi"] | {"dim": 256, "num_heads": 4, "hidden_scale": 4.5, "depformer_dim": 64}


@pytest.fixture(scope="module")
def multistream(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    home = tmp_path_factory.mktemp("multistream")
    return open_subject(export_model(home, WIDE, random_weights(WIDE, 1)))


def foreign_graph(path: Path) -> Path:
    """A convolution, two products, a table: what voices of other makers are made of."""
    helper, rng = onnx.helper, np.random.default_rng(0)
    real, whole = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64

    def constant(name: str, *shape: int) -> Any:
        values = (rng.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)
        return onnx.numpy_helper.from_array(values, name)

    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"], "look"),
        helper.make_node("MatMul", ["x", "inner"], ["y"], "inner_product"),
        helper.make_node("Relu", ["y"], ["z"], "relu"),
        helper.make_node("MatMul", ["z", "outer"], ["t"], "outer_product"),
        helper.make_node("Transpose", ["t"], ["u"], "turn", perm=[0, 2, 1]),
        helper.make_node("Conv", ["u", "kernel"], ["out"], "conv", pads=[1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "voice",
        [helper.make_tensor_value_info("ids", whole, [1, "L"])],
        [helper.make_tensor_value_info("out", real, [1, 24, "M"])],
        [
            constant("table", 40, 64),
            constant("inner", 64, 128),
            constant("outer", 128, 64),
            constant("kernel", 24, 64, 3),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, str(path))
    return path


def out_of(path: Path) -> np.ndarray[Any, Any]:
    ids = (np.arange(30)[None] * 7 % 40).astype(np.int64)
    return open_session(path).run({"ids": ids})["out"]


def test_another_makers_voice_gets_worse_in_order(tmp_path: Path) -> None:
    voice = open_subject(foreign_graph(tmp_path / "voice.onnx"), role="tts")
    want = out_of(voice.path)
    found = {}
    for name in BUILT_IN:
        made = quantize(voice, load_recipe(name), tmp_path / name)
        found[name] = (made.size_bytes, sqnr_db(want, out_of(made.directory / "voice.onnx")))
        again = open_subject(made.directory)
        assert (again.recipe, again.role, again.section) == (name, "tts", "tts")
        check_lineage(voice, again)
    assert found["float"][1] == np.inf
    assert found["transparent"][1] > 35
    assert found["int4"][1] > 15
    assert found["transparent"][1] > found["int8"][1] > found["int4"][1] > found["tiny"][1] - 1
    assert found["float"][0] > found["transparent"][0] > found["int4"][0]


@pytest.mark.parametrize("bits", range(2, 8))
def test_each_simulated_bit_is_worth_about_six_decibels(tmp_path: Path, bits: int) -> None:
    voice = open_subject(foreign_graph(tmp_path / "voice.onnx"), role="tts")
    want = out_of(voice.path)
    found = []
    for n in (bits, bits + 1):
        text = f'name = "s{n}"\n[[tts]]\nmatch = ".*"\nto = "sim{n}"\n'
        made = quantize(voice, parse_recipe(text, Path("s")), tmp_path / f"s{n}")
        found.append(sqnr_db(want, out_of(made.directory / "voice.onnx")))
    assert 3 < found[1] - found[0] < 9


def test_a_multistream_model_is_smaller_by_every_recipe(
    multistream: Subject, tmp_path: Path
) -> None:
    sizes, errors = [], []
    for name in BUILT_IN:
        made = quantize(multistream, load_recipe(name), tmp_path / name)
        after = open_subject(made.directory)
        check_lineage(multistream, after)
        ours, theirs = Values(after), Values(multistream)
        signal = noise = 0.0
        for item in multistream.items:
            want = theirs.read(item)
            signal += float(np.square(want).sum())
            noise += float(np.square(ours.read(item) - want).sum())
        sizes.append(made.size_bytes)
        errors.append(noise / signal)
    assert errors[0] == 0
    assert errors[1] <= errors[2] < errors[3] < errors[5]
    assert sizes[0] > sizes[2] > sizes[3] > sizes[5]


@pytest.mark.parametrize("threads", [1, 3])
def test_equal_input_gives_equal_bytes_at_any_number_of_threads(
    multistream: Subject, tmp_path: Path, threads: int
) -> None:
    recipe = load_recipe("compact")
    made = quantize(multistream, recipe, tmp_path / "made", threads=threads)
    found = verify_round_trip(open_subject(made.directory), multistream, recipe)
    assert found.passed
    assert found.same_bytes is True
    assert min(found.sqnr_db.values()) > 15


def test_the_medium_mix_is_that_of_llama_cpp_byte_for_byte(
    multistream: Subject, tmp_path: Path
) -> None:
    import ctypes

    import llama_cpp

    from export.gguf_read import read_gguf
    from runtime.backends.ggml import NAMES, Ggml

    source, theirs = multistream.path / "temporal.gguf", tmp_path / "theirs.gguf"
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M, 1
    code = llama_cpp.llama_model_quantize(
        str(source).encode(), str(theirs).encode(), ctypes.byref(params)
    )
    assert code == 0
    text = 'name = "m"\n[[moshi]]\nmatch = "temporal:.*"\nto = "q4_K_M"\nfallback = "q8_0"\n'
    made = quantize(multistream, parse_recipe(text, Path("m")), tmp_path / "ours")
    ours, ggml = read_gguf(made.directory / "temporal.gguf"), Ggml()
    other = read_gguf(theirs)
    by_name = {tensor.name: tensor for tensor in other.tensors}
    n_equal = 0
    for tensor in ours.tensors:
        kind = NAMES[tensor.ggml_type]
        twin = by_name[tensor.name]
        if tensor.shape[-1] % 256:
            continue  # llama.cpp falls back to types of its own choice there
        assert kind == NAMES[twin.ggml_type], tensor.name
        n_bytes = ggml.row_bytes(kind, tensor.shape[-1]) * int(np.prod(tensor.shape[:-1]))
        np.testing.assert_array_equal(ours.read(tensor, n_bytes), other.read(twin, n_bytes))
        n_equal += 1
    assert n_equal > 10


def test_a_weight_that_cannot_take_a_type_needs_a_fallback(tmp_path: Path) -> None:
    raw = CONFIGS["moshi"]  # 64 wide, K-quants take multiples of 256
    multistream = open_subject(export_model(tmp_path, raw, random_weights(raw, 1)))
    text = 'name = "m"\n[[moshi]]\nmatch = "temporal:.*"\nto = "q4_K"\n'
    narrow = parse_recipe(text, Path("m"))
    with pytest.raises(UsageError, match=r"token_embd.* cannot become q4_K; name a fallback"):
        resolve(narrow, multistream)
    fine = parse_recipe(text + 'fallback = "f16"\n', Path("m"))
    found = resolve(fine, multistream)
    assert any(choice.fell_back for choice in found.choices.values())
    with pytest.raises(UsageError, match="unknown tensor type 'q4_X'"):
        resolve(parse_recipe(text.replace("q4_K", "q4_X"), Path("m")), multistream)
    with pytest.raises(UsageError, match="unknown precision 'w5'"):
        resolve(
            parse_recipe('name = "m"\n[[mimi]]\nmatch = ".*"\nto = "w5"\n', Path("m")),
            open_subject(tiny_artifact()),
        )


def test_what_is_small_already_is_not_quantized_again(tmp_path: Path) -> None:
    voice = open_subject(foreign_graph(tmp_path / "voice.onnx"), role="tts")
    small = open_subject(quantize(voice, load_recipe("int8"), tmp_path / "small").directory)
    with pytest.raises(ArtifactError, match="is int8 already"):
        quantize(small, load_recipe("int4"), tmp_path / "smaller")
    with pytest.raises(UsageError, match="--role"):
        open_subject(tmp_path / "voice.onnx")
    with pytest.raises(UsageError, match="unknown role"):
        open_subject(tmp_path / "voice.onnx", role="vad")
    (tmp_path / "broken.onnx").write_bytes(b"no graph at all")
    with pytest.raises(ArtifactError, match=r"no ONNX graph|cannot be read"):
        quantize(
            open_subject(tmp_path / "broken.onnx", role="tts"), load_recipe("int8"), tmp_path / "x"
        )
    foreign_graph(tmp_path / "other.onnx")
    other = tmp_path / "other.onnx"
    model = onnx.load(str(other))
    model.producer_name = "another"
    onnx.save(model, str(other))
    with pytest.raises(UsageError, match="was not made from"):
        check_lineage(open_subject(other, role="tts"), small)
    with pytest.raises(UsageError, match="is a tts model"):
        check_lineage(open_subject(tiny_artifact()), small)


def test_a_dynamically_quantized_graph_is_lifted_to_what_its_weights_say(tmp_path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    source = foreign_graph(tmp_path / "voice.onnx")
    quantize_dynamic(source, tmp_path / "dynamic.onnx", op_types_to_quantize=["MatMul"])
    dynamic = open_subject(tmp_path / "dynamic.onnx", role="tts")
    with pytest.raises(ArtifactError, match="edge quantize lift"):
        quantize(dynamic, load_recipe("int4"), tmp_path / "refused")
    made = lift_model(dynamic, tmp_path / "lifted")
    lifted = made.directory / "dynamic.onnx"
    assert all(node.op_type != "MatMulInteger" for node in onnx.load(str(lifted)).graph.node)
    want = out_of(source)
    assert sqnr_db(want, out_of(lifted)) > sqnr_db(want, out_of(dynamic.path)) > 25
    quantize(open_subject(made.directory), load_recipe("int4"), tmp_path / "small")
    assert lift(source, tmp_path / "same.onnx") == 0


def test_inspect_finds_the_outlier(tmp_path: Path) -> None:
    path = foreign_graph(tmp_path / "voice.onnx")
    model = onnx.load(str(path))
    (tensor,) = (t for t in model.graph.initializer if t.name == "inner")
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[3, 4] = 50
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, "inner"))
    onnx.save(model, str(path))
    facts = {one.label: one for one in inspect(open_subject(path, role="tts"))}
    assert set(facts) == {"table:table", "matmul:inner", "matmul:outer", "conv:kernel"}
    assert [label for label, one in facts.items() if one.outliers] == ["matmul:inner"]


def test_a_plan_foretells_size_and_error(multistream: Subject, tmp_path: Path) -> None:
    found = {one.recipe: one for one in forecasts(multistream, Target())}
    assert found["float"].mean_db == np.inf
    assert found["transparent"].mean_db >= found["int8"].mean_db > found["compact"].mean_db
    assert best(list(found.values())) is found["float"]
    for name in ("int8", "compact"):
        made = quantize(multistream, load_recipe(name), tmp_path / name)
        assert made.size_bytes == pytest.approx(
            found[name].size_bytes, rel=0.04
        )  # padding between tensors counts in so small a model
    size = found["int8"].size_bytes
    choice = best(forecasts(multistream, Target(size_bytes=size)))
    assert choice is not None
    assert choice.recipe == "int8"
    assert best(forecasts(multistream, Target(size_bytes=1000))) is None
    (rpi,) = forecasts(multistream, Target(device="rpi5"), [load_recipe("int8")])
    assert rpi.frame_ms is not None
    assert 0 < rpi.frame_ms < 80
    with pytest.raises(UsageError, match="unknown device"):
        forecasts(multistream, Target(device="toaster"))


KILLED = """
import os, signal, sys
from pathlib import Path
from quant.recipe import load_recipe
from quant.run import quantize
from quant.subject import open_subject
left = int(sys.argv[3])
def told(stage, done, total):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
import export.gguf
export.gguf._SAVE_EVERY_BYTES = 1
source, out = map(Path, sys.argv[1:3])
quantize(open_subject(source), load_recipe("compact"), out, on_progress=told)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
@pytest.mark.parametrize("after", [1, 6, 15])
def test_killed_at_any_moment_it_leaves_nothing_and_goes_on(
    multistream: Subject, tmp_path: Path, after: int
) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(multistream.path), str(out), str(after)],
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    assert quantize(multistream, load_recipe("compact"), out).directory == out
    whole = quantize(multistream, load_recipe("compact"), tmp_path / "whole").directory
    first, second = (
        {one.path: one.sha256 for one in read_manifest(folder).files} for folder in (out, whole)
    )
    assert first == second
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]
