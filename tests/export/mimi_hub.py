"""transformers' Mimi, the second oracle: its layout of a checkpoint, and a run of its model."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.mimi_config import MimiConfig

Weights = dict[str, torch.Tensor]

_TO_HUB = (
    (r"^(..coder)\.model\.", r"\1.layers."),
    (r"\.(conv\.conv|convtr\.convtr)\.(weight|bias)$", r".conv.\2"),
    (r"^downsample\..*", "downsample.conv.weight"),
    (r"^upsample\..*", "upsample.conv.weight"),
    (r"_transformer\.transformer\.layers", "_transformer.layers"),
    (r"\.norm1\.", ".input_layernorm."),
    (r"\.norm2\.", ".post_attention_layernorm."),
    (r"\.layer_scale_1\.", ".self_attn_layer_scale."),
    (r"\.layer_scale_2\.", ".mlp_layer_scale."),
    (r"\.linear([12])\.", r".mlp.fc\1."),
    (r"\.self_attn\.out_proj\.", ".self_attn.o_proj."),
    (r"rvq_first\.(vq\.)?", "semantic_residual_vector_quantizer."),
    (r"rvq_rest\.(vq\.)?", "acoustic_residual_vector_quantizer."),
    (r"\._codebook\.embedding_sum$", ".codebook.embed_sum"),
    (r"\._codebook\.", ".codebook."),
)


def hub_layout(weights: Weights, config: MimiConfig) -> Weights:
    """The same weights as transformers stores them: other names, q and k permuted for its RoPE."""
    found: Weights = {}
    for name, tensor in weights.items():
        new = name
        for pattern, replacement in _TO_HUB:
            new = re.sub(pattern, replacement, new)
        if not new.endswith(".in_proj_weight"):
            found[new] = tensor
            continue
        for letter, part in zip("qkv", tensor.chunk(3), strict=True):
            pairs = part.reshape(config.n_heads, config.head_dim // 2, 2, -1)
            halves = part if letter == "v" else pairs.transpose(1, 2).reshape(part.shape)
            found[new.replace("in_proj_weight", f"{letter}_proj.weight")] = halves
    return found


def hub_model(weights: Weights, config: MimiConfig) -> Any:
    """The model of these official weights, in evaluation mode."""
    import transformers

    model = transformers.MimiModel(
        transformers.MimiConfig(
            num_filters=config.n_filters,
            hidden_size=config.dimension,
            num_hidden_layers=config.n_layers,
            num_attention_heads=config.n_heads,
            num_key_value_heads=config.n_heads,
            head_dim=config.head_dim,
            intermediate_size=config.feedforward,
            sliding_window=config.context,
            codebook_dim=config.codebook_dim,
            vector_quantization_hidden_dimension=config.codebook_dim,
            codebook_size=config.bins,
            num_quantizers=config.n_codebooks,
            upsample_groups=config.dimension,
            upsampling_ratios=list(config.ratios),
        )
    )
    nested = {_nested(name): tensor for name, tensor in hub_layout(weights, config).items()}
    found = model.load_state_dict(nested, strict=False)
    assert not found.unexpected_keys, found.unexpected_keys[:9]
    assert all(name.endswith("initialized") for name in found.missing_keys)
    return model.eval()


def _nested(name: str) -> str:
    """A name of the published file as releases from 5.0 on hold it."""
    for pattern, new in (
        (r"^(encoder|decoder)\.", r"\1.\1_seanet."),
        (r"^(encoder_transformer|downsample)\.", r"encoder.\1."),
        (r"^(decoder_transformer|upsample)\.", r"decoder.\1."),
    ):
        if re.match(pattern, name):
            return re.sub(pattern, new, name)
    return name


def hub_run(
    model: Any, frames: NDArray[np.float32], n_codebooks: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Codes (n_frames, n_codebooks) and decoded frames (n_frames, 1920) of a whole sound.

    The model takes it in one piece, so it equals a stream only as long as attention sees it all.
    """
    with torch.no_grad():
        codes = model.encode(
            torch.from_numpy(frames.reshape(1, 1, -1)), num_quantizers=n_codebooks
        ).audio_codes
        wave = model.decode(codes).audio_values[0, 0].numpy()
    return codes[0].T.numpy(), wave[: frames.size].reshape(frames.shape)
