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
