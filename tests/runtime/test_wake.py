"""The three stages on small real graphs, and the gate in front of an engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from apps.wake import check_own, open_wake_word, waking
from edge.config import WakeConfig
from edge.errors import ConfigError, ModelDamagedError, ShapeError
from edge.frame import FRAME_SAMPLES, Event, Frame, Pcm, Reply, silence
from edge.hashing import sha256_of
from runtime.engines.engine import Context
from runtime.engines.waking import Waking
from runtime.models.wake import EMBEDDING_FILE, MEL_FILE, STEP_SAMPLES, WakeModel, WakeState

LOUD = 0.25


def save(
    path: Path, nodes: list[onnx.NodeProto], shapes: tuple[object, object], **values: object
) -> Path:
    """A graph x -> y."""
    made = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shapes[0])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shapes[1])],
        made,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def small_files(folder: Path) -> dict[str, Path]:
    """A "phrase" that is loudness: the score says how loud the last 1.28 s were.

    Spectrogram: mean square of each hop of 160 samples, in all 32 bands. Embedding: the mean of a
    window. Classifier: the mean of all vectors.
    """
    mel = save(
        folder / MEL_FILE,
        [
            helper.make_node("Mul", ["x", "scale"], ["s"]),
            helper.make_node("Mul", ["s", "s"], ["q"]),
            helper.make_node("Slice", ["q", "from", "to", "axis"], ["t"]),
            helper.make_node("Reshape", ["t", "hops"], ["h"]),
            helper.make_node("ReduceMean", ["h"], ["m"], axes=[3], keepdims=1),
            helper.make_node("Sub", ["m", "two"], ["n"]),
            helper.make_node("Mul", ["n", "ten"], ["u"]),
            helper.make_node("Expand", ["u", "wide"], ["y"]),
        ],
        ((None, None), (None, 1, None, 32)),
        scale=np.float32(1 / 32767),
        **{"from": np.array([480]), "to": np.array([1760]), "axis": np.array([1])},
        hops=np.array([1, 1, 8, 160]),
        two=np.float32(2),
        ten=np.float32(10),
        wide=np.array([1, 1, 8, 32]),
    )
    embedding = save(
        folder / EMBEDDING_FILE,
        [
            helper.make_node("Slice", ["x", "from", "to", "axis"], ["t"]),
            helper.make_node("ReduceMean", ["t"], ["m"], axes=[1, 2], keepdims=1),
            helper.make_node("Expand", ["m", "wide"], ["y"]),
        ],
        ((None, 76, 32, 1), (None, 1, 1, 96)),
        **{"from": np.array([68]), "to": np.array([76]), "axis": np.array([1])},
        wide=np.array([1, 1, 1, 96]),
    )
    return {MEL_FILE: mel, EMBEDDING_FILE: embedding, "loud.onnx": classifier(folder / "loud.onnx")}


def classifier(path: Path, *, width: int = 96) -> Path:
    """The mean of 16 vectors."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[1, 2], keepdims=0),
        helper.make_node("Reshape", ["m", "one"], ["y"]),
    ]
    return save(path, nodes, ((1, 16, width), (1, 1)), one=np.array([1, 1]))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> WakeModel:
    return WakeModel(small_files(tmp_path_factory.mktemp("w")))


def test_the_score_is_what_the_three_stages_make_of_the_last_16_steps(model: WakeModel) -> None:
    rng = np.random.default_rng(0)
    sound = rng.uniform(-0.5, 0.5, (24, STEP_SAMPLES)).astype(np.float32)
    state, scores = WakeState(), []
    for part in sound:
        state, score = model.step(state, part)
        scores.append(score)
    assert scores[:16] == [0.0] * 16  # too little was heard to judge
    # Columns lag by nothing: each step's vector is the mean square of its own 80 ms.
    for n in range(16, 24):
        heard = np.rint(sound[n - 15 : n + 1] * 32767) / 32767
        assert scores[n] == pytest.approx(float(np.mean(heard**2)), rel=1e-3)


def test_it_refuses_other_sizes_and_other_models(model: WakeModel, tmp_path: Path) -> None:
    with pytest.raises(ShapeError):
        model.step(WakeState(), np.zeros(100, np.float32))
    files = small_files(tmp_path)
    with pytest.raises(ModelDamagedError, match="openWakeWord"):
        WakeModel(files, classifier=classifier(tmp_path / "odd.onnx", width=95))
    with pytest.raises(ModelDamagedError, match="needs"):
        WakeModel({MEL_FILE: files[MEL_FILE]})


class Copycat:
    """Says back what it hears; idle when that was silence."""

    def __init__(self) -> None:
        self.heard: list[float] = []

    def warm_up(self) -> None: ...

    def start(self, *, seed: int, context: Context) -> list[Pcm]:
        return [silence()]

    def idle(self, state: list[Pcm]) -> bool:
        return not state[0].any()

    def finish(self, state: list[Pcm]) -> None:
        state.clear()

    def step(self, state: list[Pcm], frame: Frame) -> tuple[list[Pcm], Reply]:
        self.heard.append(float(np.abs(frame.pcm).max()))
        state[0] = frame.pcm
        return state, Reply(frame.index, frame.pcm, "", (Event("stage"),))


def talk(gate: Waking[list[Pcm]], levels: list[float]) -> tuple[list[str], list[int]]:
    """Frames of these levels through the gate: events by name, and the frames they came in."""
    state = gate.start(seed=0, context=Context())
    names, when = [], []
    for index, level in enumerate(levels):
        pcm = np.full(FRAME_SAMPLES, level, np.float32)
        state, reply = gate.step(state, Frame(index, index, pcm))
        assert reply.index == index
        for event in reply.events:
            if event.kind != "stage":
                names.append(event.kind)
                when.append(index)
    gate.finish(state)
    return names, when


def test_nothing_is_heard_before_the_word_and_all_after_it(model: WakeModel) -> None:
    inner = Copycat()
    gate = waking(inner, model, WakeConfig(threshold=0.03, listen_s=1.6), lambda: False)
    soft, loud = [0.1] * 40, [0.5] * 20
    names, when = talk(gate, [*soft, *loud, *([0.0] * 60), *soft])
    assert names == ["woken", "asleep"]
    woken, asleep = when
    assert 40 < woken < 60
    assert inner.heard[:woken] == [0.0] * woken  # 0.1 does not wake: it was not heard
    assert inner.heard[woken:60] == [0.5] * (60 - woken)
    assert asleep == 59 + 20  # 20 frames after the last sound
    assert not any(inner.heard[asleep:])


def test_it_stays_awake_as_long_as_something_is_heard_or_said(model: WakeModel) -> None:
    gate = waking(Copycat(), model, WakeConfig(threshold=0.03, listen_s=1.0), lambda: False)
    names, _ = talk(gate, [*([0.5] * 30), *([0.05] * 100)])
    assert names == ["woken"]


def test_the_talk_key_wakes_it_without_a_word(model: WakeModel) -> None:
    inner = Copycat()
    down = [False]
    gate = waking(inner, model, WakeConfig(threshold=1.0, listen_s=1.0), lambda: down[0])
    state = gate.start(seed=0, context=Context())
    for index in range(20):
        down[0] = 5 <= index < 7
        frame = Frame(index, index, np.full(FRAME_SAMPLES, 0.2, np.float32))
        state, _ = gate.step(state, frame)
    assert not any(inner.heard[:5])
    assert all(inner.heard[5:])


def test_a_model_of_ones_own_needs_its_hash(tmp_path: Path) -> None:
    path = classifier(tmp_path / "mine.onnx")
    right = sha256_of(path)
    check_own(path, right)
    with pytest.raises(ConfigError, match=right):
        check_own(path, "")
    with pytest.raises(ModelDamagedError, match="find out why"):
        check_own(path, "0" * 64)
    with pytest.raises(ConfigError, match="there is no"):
        check_own(tmp_path / "none.onnx", right)
    with pytest.raises(ConfigError, match="needs its hash"):
        open_wake_word(WakeConfig(enabled=True, file=str(path)))
