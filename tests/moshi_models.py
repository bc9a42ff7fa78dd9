"""Small multistream models with seeded random weights, as official configs and checkpoints."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.moshi import ExportOptions, export_moshi
from export.moshi_checkpoint import expected_shapes
from export.moshi_config import parse_config

_SMALL: dict[str, Any] = {
    "dim": 64,
    "text_card": 47,
    "existing_text_padding_id": 3,
    "n_q": 8,
    "dep_q": 4,
    "card": 32,
    "num_heads": 4,
    "num_layers": 2,
    "hidden_scale": 4.125,
    "causal": True,
    "layer_scale": None,
    "context": 400,
    "max_period": 10000,
    "gating": "silu",
    "norm": "rms_norm_f32",
    "positional_embedding": "rope",
    "depformer_dim": 32,
    "depformer_num_heads": 2,
    "depformer_num_layers": 2,
    "depformer_dim_feedforward": 132,
    "depformer_multi_linear": True,
    "depformer_pos_emb": "none",
    "depformer_weights_per_step": True,
    "delays": [0, 0, 1, 1, 1, 0, 1, 1, 1],
}

# One entry for each published kind of model, every size reduced.
CONFIGS: Mapping[str, dict[str, Any]] = {
    "moshi": _SMALL,
    "personaplex": _SMALL | {"model_type": "personaplex", "dep_q": 8},
    "hibiki": _SMALL
    | {
        "model_type": "hibiki",
        "dim": 80,
        "num_heads": 5,
        "hidden_scale": 4.125,
        "n_q": 12,
        "dep_q": 6,
        "max_period": 100_000.0,
        "delays": [0, 0, 2, 2, 2, 2, 2, 0, 2, 2, 2, 2, 2],
        "depformer_weights_per_step_schedule": [0, 1, 2, 3, 3, 3],
        "depformer_low_rank_embeddings": 16,
        "conditioners": {
            "description": {
                "type": "lut",
                "lut": {
                    "n_bins": 31,
                    "dim": 16,
                    "tokenizer": "noop",
                    "possible_values": ["very_bad", "bad", "neutral", "good", "very_good"],
                },
            }
        },
        "fuser": {"sum": ["description"], "cross": [], "prepend": []},
    },
    "speech_to_text": _SMALL
    | {
        "model_type": "stt",
        "dep_q": 0,
        "delays": [0] * 9,
        "extra_heads_num_heads": 3,
        "extra_heads_dim": 6,
    },
    "grouped": _SMALL
    | {
        "kv_repeat": 2,
        "positional_embedding": "rope_concat",
        "max_period": 20_000,
        "depformer_norm": "rms_norm_f32",
        "depformer_low_rank_embeddings": 16,
        "depformer_weights_per_step_schedule": [0, 1, 1, 0],
        "norm_emb": True,
    },
    # The official package's own toy model, as far as the artifact can express it: that one has
    # layer_norm, GELU without gating and sinusoidal positions, which are refused by name.
    "toy": _SMALL
    | {
        "dim": 16,
        "num_heads": 1,
        "hidden_scale": 3,
        "text_card": 48,
        "n_q": 3,
        "dep_q": 3,
        "delays": [0, 1, 2, 4],
        "context": 4,
        "depformer_dim": 16,
        "depformer_num_heads": 1,
        "depformer_dim_feedforward": 48,
        "depformer_weights_per_step_schedule": [0, 1, 1],
        "depformer_low_rank_embeddings": 8,
    },
    "short_context": _SMALL | {"context": 24},
    # Sixteen streams of 2048 codes, as the codes of prompts need them.
    "personaplex_loop": _SMALL
    | {
        "model_type": "personaplex",
        "n_q": 16,
        "dep_q": 16,
        "card": 2048,
        "delays": [0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1],
    },
    "layer_normed_heads": _SMALL
    | {"depformer_norm": "layer_norm", "depformer_pos_emb": "sin", "norm": "rms_norm"},
}


def random_weights(raw: Mapping[str, Any], seed: int) -> dict[str, NDArray[np.float32]]:
    """Every tensor of a model of a config, seeded; the same on every machine."""
    config = parse_config(raw)
    rng = np.random.default_rng(seed)
    hidden = int(raw["hidden_scale"] * config.dim) * 2 // 3
    depth_hidden = int(raw.get("depformer_dim_feedforward", 0)) * 2 // 3
    tensors = {}
    for name, want in expected_shapes(config):
        free = depth_hidden if name.startswith("depformer.") else hidden
        if "linear_in" in name:
            free *= 2
        shape = tuple(free if size is None else size for size in want)
        tensors[name] = _values(rng, name, shape)
    return tensors


def _values(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    noise = rng.standard_normal(shape, np.float32)
    if name.endswith(("alpha", "norm.weight")) or "depformer_norms" in name:
        return noise * np.float32(0.2) + np.float32(not name.endswith("bias"))
    if name.endswith("norm.bias"):
        return noise * np.float32(0.1)
    if name.startswith(("emb.", "text_emb", "depformer_emb", "depformer_text_emb")):
        return noise * np.float32(0.5)
    # Heads are made louder, so that the best of their logits is far from the second best.
    gain = 3.0 if name.startswith(("linears", "text_linear")) else 1.2
    return noise * np.float32(gain / np.sqrt(shape[-1]))


def write_safetensors(
    path: Path, tensors: Mapping[str, NDArray[np.generic]], *, dtype: str = "F32"
) -> Path:
    """Write tensors; dtype "BF16" takes the bits as uint16."""
    header: dict[str, Any] = {}
    offset = 0
    for name, array in tensors.items():
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in tensors.values():
            file.write(np.ascontiguousarray(array).tobytes())
    return path


def old_names(tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """The same weights as older checkpoints name them: attention projections stacked."""
    stacked: dict[str, list[NDArray[np.float32]]] = {}
    found: dict[str, NDArray[np.float32]] = {}
    for name, tensor in tensors.items():
        prefix, mark, _ = name.partition("_projs.")
        if mark:
            old = f"{prefix}_proj_weight" if prefix.endswith("in") else f"{prefix}_proj.weight"
            stacked.setdefault(old, []).append(tensor)
        else:
            found[name] = tensor
    return found | {name: np.concatenate(parts) for name, parts in stacked.items()}


def by_slices(
    tensors: Mapping[str, NDArray[np.float32]], raw: Mapping[str, Any], *, mlx: bool
) -> dict[str, NDArray[np.float32]]:
    """The same weights as Candle's or MLX's files name them, as the official scripts make these."""
    depth = parse_config(raw).depth
    assert depth is not None
    found: dict[str, NDArray[np.float32]] = {}
    for name, tensor in old_names(tensors).items():
        if name.startswith(("depformer", "linears")):
            continue
        new, stored = name, tensor
        if mlx:
            stored = tensor[0, 0] if name.endswith(".alpha") else tensor
            new = re.sub(r"^emb\.", "audio_embs.", name).replace(".alpha", ".weight")
            new = new.replace(".in_proj_weight", ".in_proj.weight")
        found[new] = stored
    for step, index in enumerate(depth.schedule):
        base = f"depformer.slices.{step}." if mlx else f"depformer.{step}."
        found[f"{base}linear_in.weight"] = tensors[f"depformer_in.{index}.weight"]
        found[f"{base}linear_out.weight"] = tensors[f"linears.{step}.weight"]
        table = "depformer_text_emb" if step == 0 else f"depformer_emb.{step - 1}"
        for part in ("weight", "low_rank.weight"):
            if f"{table}.{part}" in tensors:
                found[f"{base}emb.{part}"] = tensors[f"{table}.{part}"]
        for layer in range(depth.n_layers):
            theirs, ours = f"depformer.layers.{layer}", f"{base}transformer.layers.{layer}"
            for side in ("in", "out"):
                tail = "_weight" if side == "in" and not mlx else ".weight"
                stored = tensors[f"{theirs}.self_attn.{side}_projs.{index}.weight"]
                found[f"{ours}.self_attn.{side}_proj{tail}"] = stored
                gate = tensors[f"{theirs}.gating.{index}.linear_{side}.weight"]
                found[f"{ours}.gating.linear_{side}.weight"] = gate
            for norm in ("norm1", "norm2"):
                alpha = tensors[f"{theirs}.{norm}.alpha"]
                name = "weight" if mlx else "alpha"
                found[f"{ours}.{norm}.{name}"] = alpha[0, 0] if mlx else alpha
    return found


def first_slices(
    tensors: Mapping[str, NDArray[np.float32]], n: int
) -> dict[str, NDArray[np.float32]]:
    """A model's weights without what only its depth steps from n on use."""
    slices = re.compile(
        r"(?:linears|depformer_in|depformer_norms|depformer_emb_next"
        r"|depformer\.layers\.\d+\.(?:gating|self_attn\.(?:in|out)_projs))\.(\d+)\..*"
    )
    kept = {}
    for name, tensor in tensors.items():
        following = re.sub(
            r"^depformer_emb\.(\d+)", lambda m: f"depformer_emb_next.{int(m[1]) + 1}", name
        )
        match = slices.fullmatch(following)
        if match is None or int(match[1]) < n:
            kept[name] = tensor
    return kept


def export_model(
    folder: Path, raw: Mapping[str, Any], tensors: Mapping[str, NDArray[np.generic]]
) -> Path:
    """Write a checkpoint and config and export them; the artifact's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = write_safetensors(folder / "model.safetensors", tensors)
    config = folder / "config.json"
    config.write_text(json.dumps(raw))
    return export_moshi(ExportOptions(checkpoint, config), folder / "artifact")


def user_codes(raw: Mapping[str, Any], n_frames: int, seed: int) -> NDArray[np.int64]:
    """What the user's streams say: int64 (n_frames, n_user)."""
    config = parse_config(raw)
    rng = np.random.default_rng(seed)
    return rng.integers(0, config.card, (n_frames, config.n_q - config.n_own))


def sparse_checkpoint(path: Path, raw: Mapping[str, Any], *, hidden: int, depth_hidden: int) -> int:
    """A bfloat16 checkpoint of zeros that takes no disk; returns its largest tensor's bytes."""
    free = {"transformer": hidden, "depformer": depth_hidden}
    header: dict[str, Any] = {}
    offset = largest = 0
    for name, want in expected_shapes(parse_config(raw)):
        width = free.get(name.partition(".")[0], 0) * (2 if "linear_in" in name else 1)
        shape = [width if size is None else size for size in want]
        n_bytes = 2 * int(np.prod(shape))
        header[name] = {
            "dtype": "BF16",
            "shape": shape,
            "data_offsets": [offset, offset + n_bytes],
        }
        offset, largest = offset + n_bytes, max(largest, n_bytes)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)
    return largest
