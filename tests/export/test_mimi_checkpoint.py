"""Mimi checkpoints: both layouts, every spelling, and one error for all that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import ModelDamagedError, ModelMissingError, ShapeError
from tests.export.mimi_hub import hub_layout
from tests.export.mimi_oracle import SMALL

torch = pytest.importorskip("torch", reason="checkpoints are read as torch tensors")
from safetensors.torch import save_file  # noqa: E402

from export.checkpoint import interleave_rotary, read_checkpoint, weight_shapes  # noqa: E402
from export.mimi_config import MimiConfig  # noqa: E402
from export.mimi_random import random_weights, write_random_checkpoint  # noqa: E402

Weights = dict[str, "torch.Tensor"]


def _save(path: Path, weights: Weights) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
    return path


def _same(found: Weights, want: Weights) -> bool:
    kept = {name: tensor for name, tensor in found.items() if not name.endswith("_initialized")}
    return set(kept) == set(want) and all(torch.equal(kept[name], want[name]) for name in want)


def test_the_official_layout_is_read_as_it_is(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path / "a.safetensors", SMALL, seed=1)
    found = read_checkpoint(tmp_path / "a.safetensors", SMALL)
    assert _same(found, random_weights(SMALL, seed=1))


def test_the_hub_layout_gives_the_same_weights(tmp_path: Path) -> None:
    want = random_weights(SMALL, seed=2)
    path = _save(tmp_path / "hub.safetensors", hub_layout(want, SMALL))
    assert _same(read_checkpoint(path, SMALL), want)


def test_newer_module_names_are_known(tmp_path: Path) -> None:
    want = random_weights(SMALL, seed=3)
    newer = {
        name.replace("in_proj_weight", "in_projs.0.weight").replace("out_proj.", "out_projs.0."): t
        for name, t in want.items()
    }
    assert _same(read_checkpoint(_save(tmp_path / "new.safetensors", newer), SMALL), want)


def test_half_precision_is_widened(tmp_path: Path) -> None:
    half = {name: tensor.bfloat16() for name, tensor in random_weights(SMALL, seed=4).items()}
    found = read_checkpoint(_save(tmp_path / "half.safetensors", half), SMALL)
    assert all(found[name].dtype == torch.float32 for name in half)
    assert all(torch.equal(found[name], tensor.float()) for name, tensor in half.items())


def test_the_rotary_permutation_is_undone_row_by_row() -> None:
    width, heads, half = SMALL.dimension, SMALL.n_heads, SMALL.head_dim // 2
    rows = torch.arange(width, dtype=torch.float32)[:, None].repeat(1, width)
    found = interleave_rotary(rows, SMALL)[:, 0].reshape(heads, half, 2)
    for head in range(heads):
        for pair in range(half):
            first = head * 2 * half + pair
            assert found[head, pair].tolist() == [first, first + half]


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    weights = random_weights(SMALL, seed=5)
    del weights["decoder.model.0.conv.conv.bias"]
    weights["colour"] = torch.zeros(3)
    weights["downsample.conv.conv.conv.weight"] = torch.zeros(32, 32, 3)
    with pytest.raises(ShapeError) as caught:
        read_checkpoint(_save(tmp_path / "odd.safetensors", weights), SMALL)
    told = str(caught.value)
    assert "1 missing (decoder.model.0.conv.conv.bias)" in told
    assert "1 surplus (colour)" in told
    assert "1 misshapen (downsample.conv.conv.conv.weight (32, 32, 3) not (32, 32, 4))" in told
    assert "\n" not in told


def test_a_checkpoint_of_another_model_is_one_short_error(tmp_path: Path) -> None:
    other = {f"layers.{i}.weight": torch.zeros(2) for i in range(500)}
    with pytest.raises(ShapeError) as caught:
        read_checkpoint(_save(tmp_path / "other.safetensors", other), SMALL)
    assert len(str(caught.value)) < 1500
    assert "500 surplus" in str(caught.value)


def test_only_whole_safetensors_are_opened(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "pickle.pt")
    write_random_checkpoint(tmp_path / "a.safetensors", SMALL, seed=1)
    raw = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(raw[: len(raw) // 2])
    for name in ("pickle.pt", "cut.safetensors"):
        with pytest.raises(ModelDamagedError, match="safetensors"):
            read_checkpoint(tmp_path / name, SMALL)
    with pytest.raises(ModelMissingError, match="absent"):
        read_checkpoint(tmp_path / "absent.safetensors", SMALL)


def test_the_published_codec_has_the_published_number_of_values() -> None:
    shapes = weight_shapes(MimiConfig())
    n_values = sum(torch.Size(shape).numel() for shape in shapes.values())
    assert n_values + 32 == 96_151_393  # and one flag for each codebook
