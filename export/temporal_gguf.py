"""The main transformer of a multistream model as a GGUF of architecture llama."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.gguf import FILE_TYPES, GgufTensor, float_tensor
from export.moshi_checkpoint import MoshiCheckpoint
from export.moshi_config import RMS_EPSILON, MoshiConfig

# GGUF knows tensors by these names; see LLM_TENSOR_NAMES in llama.cpp, src/llama-arch.cpp.


def temporal_metadata(config: MoshiConfig, hidden: int, dtype: str) -> dict[str, Any]:
    """The GGUF keys of a model. hidden: feed-forward width. dtype: of its matrices.

    There is no vocabulary: embeddings go in, hidden states and text logits come out. The text
    head is stored as token_embd, which llama.cpp also uses as the output where there is no other.
    """
    return {
        "general.architecture": "llama",
        "general.name": "temporal transformer",
        "general.file_type": FILE_TYPES[dtype],
        "general.quantization_version": 2,
        "llama.vocab_size": config.text_card_out,
        "llama.context_length": config.context,
        "llama.embedding_length": config.dim,
        "llama.block_count": config.n_layers,
        "llama.feed_forward_length": hidden,
        "llama.attention.head_count": config.n_heads,
        "llama.attention.head_count_kv": config.n_heads // config.kv_repeat,
        "llama.attention.key_length": config.head_dim,
        "llama.attention.value_length": config.head_dim,
        "llama.attention.layer_norm_rms_epsilon": RMS_EPSILON[config.norm],
        "llama.rope.dimension_count": config.head_dim,
        "llama.rope.freq_base": config.max_period,
        "tokenizer.ggml.model": "none",
    }


def hidden_width(checkpoint: MoshiCheckpoint) -> int:
    """The feed-forward width of the main transformer, as its tensors have it."""
    return checkpoint.shape("transformer.layers.0.gating.linear_out.weight")[1]


def temporal_tensors(checkpoint: MoshiCheckpoint) -> Iterator[GgufTensor]:
    """Every tensor of the GGUF in the order to write, read when its turn comes."""
    config = checkpoint.config
    yield _matrix(checkpoint, "token_embd.weight", "text_linear.weight")
    yield _norm(checkpoint, "output_norm.weight", "out_norm.alpha")
    for layer in range(config.n_layers):
        theirs, ours = f"transformer.layers.{layer}", f"blk.{layer}"
        attention = f"{theirs}.self_attn.in_projs.0.weight"
        dim, kv_dim = config.dim, config.kv_dim
        yield _norm(checkpoint, f"{ours}.attn_norm.weight", f"{theirs}.norm1.alpha")
        for letter, begin, n_rows in (
            ("q", 0, dim),
            ("k", dim, kv_dim),
            ("v", dim + kv_dim, kv_dim),
        ):
            yield _matrix(
                checkpoint,
                f"{ours}.attn_{letter}.weight",
                attention,
                rows=_rows(config, letter, begin, n_rows),
            )
        yield _matrix(
            checkpoint, f"{ours}.attn_output.weight", f"{theirs}.self_attn.out_projs.0.weight"
        )
        yield _norm(checkpoint, f"{ours}.ffn_norm.weight", f"{theirs}.norm2.alpha")
        hidden = checkpoint.shape(f"{theirs}.gating.linear_out.weight")[1]
        gated = f"{theirs}.gating.linear_in.weight"
        yield _matrix(checkpoint, f"{ours}.ffn_gate.weight", gated, rows=slice(0, hidden))
        yield _matrix(checkpoint, f"{ours}.ffn_up.weight", gated, rows=slice(hidden, 2 * hidden))
        yield _matrix(checkpoint, f"{ours}.ffn_down.weight", f"{theirs}.gating.linear_out.weight")


def _rows(config: MoshiConfig, letter: str, begin: int, n_rows: int) -> slice | NDArray[np.intp]:
    """Rows of the stacked projection; split-half rotary heads are put into pairs on the way."""
    if config.rope_interleaved or letter == "v":
        return slice(begin, begin + n_rows)
    halves = np.arange(begin, begin + n_rows).reshape(-1, 2, config.head_dim // 2)
    return halves.transpose(0, 2, 1).reshape(-1)


def _matrix(
    checkpoint: MoshiCheckpoint,
    ours: str,
    theirs: str,
    *,
    rows: slice | NDArray[np.intp] | None = None,
) -> GgufTensor:
    """A matrix in the type that it is stored in."""
    n_rows, n_columns = checkpoint.shape(theirs)
    if isinstance(rows, slice):
        n_rows = rows.stop - rows.start
    elif rows is not None:
        n_rows = len(rows)
    read = partial(_read_rows, checkpoint, theirs, slice(None) if rows is None else rows)
    return float_tensor(ours, (n_rows, n_columns), checkpoint.dtype(theirs), read)


def _read_rows(
    checkpoint: MoshiCheckpoint, name: str, rows: slice | NDArray[np.intp]
) -> NDArray[Any]:
    return checkpoint.read(name).array[rows]


def _norm(checkpoint: MoshiCheckpoint, ours: str, theirs: str) -> GgufTensor:
    """A norm's scale, always float32: llama.cpp takes no other type there."""
    n = checkpoint.shape(theirs)[-1]

    def read() -> NDArray[Any]:
        return checkpoint.read(theirs).float32().reshape(n)

    return float_tensor(ours, (n,), "F32", read)
