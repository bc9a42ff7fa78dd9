"""The codec's host state: the attention ring, the mask and the angles, against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge.errors import ArtifactError
from edge.manifest import GraphSpec, StatePair, TensorSpec
from runtime.models.mimi_state import RingShape, SideState

HEADS, WIDTH = 2, 4


def _graph(n: int, context: int) -> GraphSpec:
    inputs = (
        TensorSpec("pcm", "float32", (1920,)),
        TensorSpec("rope_cos", "float32", (n, 1, WIDTH)),
        TensorSpec("rope_sin", "float32", (n, 1, WIDTH)),
        TensorSpec("attn_mask", "float32", (n, 1, context + n)),
        TensorSpec("cache_k.0", "float32", (HEADS, 1, WIDTH, context)),
        TensorSpec("cache_v.0", "float32", (HEADS, 1, context, WIDTH)),
        TensorSpec("first", "float32", (1,)),
        TensorSpec("state.a", "float32", (3,)),
    )
    outputs = (
        TensorSpec("codes", "int64", (1,)),
        TensorSpec("new_k", "float32", (HEADS, 1, WIDTH, n)),
        TensorSpec("new_v", "float32", (HEADS, 1, n, WIDTH)),
        TensorSpec("next.a", "float32", (3,)),
    )
    states = (
        StatePair("state.a", "next.a", "conv"),
        StatePair("cache_k.0", "new_k", "kv"),
        StatePair("cache_v.0", "new_v", "kv"),
    )
    return GraphSpec("encoder", "encoder.onnx", inputs, outputs, states)


def _state(n: int, context: int) -> SideState:
    return SideState(RingShape(n, context, 1, HEADS, WIDTH, 10_000.0), _graph(n, context))


def _step(state: SideState) -> None:
    """A net whose keys and values are the positions themselves, counted from 1."""
    n = state.ring.n_positions
    positions = state.n_frames * n + np.arange(n) + 1
    now = state.outputs[state.parity]
    now["new_k"][...] = positions
    now["new_v"][...] = positions[:, None]
    now["next.a"][...] = state.inputs[state.parity]["state.a"] + 1
    state.advance()


@pytest.mark.parametrize(("n", "context"), [(2, 6), (2, 7), (1, 4), (3, 8)])
def test_the_mask_shows_the_latest_positions_and_no_others(n: int, context: int) -> None:
    state = _state(n, context)
    for frame in range(4 * context):
        mask = state.buffers["attn_mask"]
        offset = frame * n
        # A ring that will hold the frame's own positions too has already lost as many old ones.
        visible = set(range(max(0, offset + n - context), offset))
        for row in range(n):
            seen = np.flatnonzero(mask[row, 0, :context] == 0)
            assert {int(state.keys[0, 0, 0, slot]) - 1 for slot in seen} == visible
            assert {int(state.values[1, 0, slot, 3]) - 1 for slot in seen} == visible
            new = mask[row, 0, context:] == 0
            assert new.tolist() == [position <= row for position in range(n)]
        _step(state)


def test_small_states_alternate_between_two_buffers_without_a_copy() -> None:
    state = _state(2, 6)
    for frame in range(5):
        assert state.inputs[state.parity]["state.a"].tolist() == [frame] * 3
        assert state.buffers["first"][0] == (1.0 if frame == 0 else 0.0)
        _step(state)
    assert state.inputs[0]["state.a"] is state.outputs[1]["next.a"]


def test_angles_are_exact_after_a_week() -> None:
    state = _state(2, 6)
    week = 7 * 24 * 3600 * 25 // 2
    saved = state.snapshot()
    saved["n_frames"][0] = week
    state.restore(saved)
    for step in range(2):
        for pair in range(WIDTH // 2):
            angle = math.fmod((2 * week + step) * 10_000.0 ** (-2 * pair / WIDTH), 2 * math.pi)
            for column in (2 * pair, 2 * pair + 1):
                cos = state.buffers["rope_cos"][step, 0, column]
                sin = state.buffers["rope_sin"][step, 0, column]
                assert math.hypot(cos - math.cos(angle), sin - math.sin(angle)) < 1e-6


def test_a_restored_state_goes_on_as_the_saved_one() -> None:
    one, other = _state(2, 7), _state(2, 7)
    for _ in range(9):
        _step(one)
    other.restore(one.snapshot())
    for _ in range(5):
        for name in ("rope_cos", "rope_sin", "attn_mask", "first"):
            np.testing.assert_array_equal(one.buffers[name], other.buffers[name])
        np.testing.assert_array_equal(one.keys, other.keys)
        a, b = (side.inputs[side.parity]["state.a"] for side in (one, other))
        np.testing.assert_array_equal(a, b)
        _step(one)
        _step(other)


def test_a_snapshot_of_another_size_is_refused() -> None:
    with pytest.raises(ArtifactError, match="keys"):
        _state(2, 7).restore(_state(2, 9).snapshot())


def test_a_graph_with_free_sizes_or_without_a_ring_is_refused() -> None:
    graph = _graph(2, 6)
    ring = RingShape(2, 6, 1, HEADS, WIDTH, 10_000.0)
    free = (TensorSpec("pcm", "float32", ("n_samples",)), *graph.inputs[1:])
    with pytest.raises(ArtifactError, match="free size"):
        SideState(ring, GraphSpec("encoder", "e.onnx", free, graph.outputs, graph.states))
    with pytest.raises(ArtifactError, match="new_k"):
        SideState(ring, GraphSpec("encoder", "e.onnx", graph.inputs, graph.outputs[:1]))
