"""Checkpoints of Mimi: safetensors in the official or the transformers layout, checked whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import ModelDamagedError, ModelMissingError, ShapeError
from export.mimi_config import MimiConfig

if TYPE_CHECKING:
    import torch

_MAX_NAMED = 6  # of each kind of fault, in one error line

# Official names as older and newer releases write them -> the one that is used here.
_OFFICIAL_SPELLINGS = (
    (re.compile(r"\.self_attn\.in_proj(s\.0|)\.weight$"), ".self_attn.in_proj_weight"),
    (re.compile(r"\.self_attn\.out_projs\.0\.weight$"), ".self_attn.out_proj.weight"),
    (re.compile(r"\._codebook\.(embed_sum|embed_avg)$"), "._codebook.embedding_sum"),
    (re.compile(r"\._codebook\.cluster_size$"), "._codebook.cluster_usage"),
    (re.compile(r"\._codebook\.(inited|initialized)$"), "._codebook._initialized"),
)
_HUB_SPELLINGS = (
    # Nested and flat module trees were both published.
    (re.compile(r"^(en|de)coder\.(en|de)coder_seanet\."), r"\1coder."),
    (re.compile(r"^(?:en|de)coder\.((?:en|de)coder_transformer|downsample|upsample)\."), r"\1."),
    (
        re.compile(r"^((?:en|de)coder)\.layers\.(\d+)\.(block\.\d+\.)?conv\."),
        r"\1.model.\2.\3conv.",
    ),
    (re.compile(r"^downsample\.conv\.weight$"), "downsample.conv.conv.conv.weight"),
    (re.compile(r"^upsample\.conv\.weight$"), "upsample.convtr.convtr.convtr.weight"),
    (re.compile(r"^((?:en|de)coder_transformer)\.layers\."), r"\1.transformer.layers."),
    (re.compile(r"\.input_layernorm\."), ".norm1."),
    (re.compile(r"\.post_attention_layernorm\."), ".norm2."),
    (re.compile(r"\.self_attn_layer_scale\."), ".layer_scale_1."),
    (re.compile(r"\.mlp_layer_scale\."), ".layer_scale_2."),
    (re.compile(r"\.mlp\.fc([12])\."), r".linear\1."),
    (re.compile(r"\.self_attn\.o_proj\."), ".self_attn.out_proj."),
    (re.compile(r"\.semantic_residual_vector_quantizer\.layers\."), ".rvq_first.vq.layers."),
    (re.compile(r"\.acoustic_residual_vector_quantizer\.layers\."), ".rvq_rest.vq.layers."),
    (re.compile(r"\.semantic_residual_vector_quantizer\."), ".rvq_first."),
    (re.compile(r"\.acoustic_residual_vector_quantizer\."), ".rvq_rest."),
    (re.compile(r"\.codebook\."), "._codebook."),
)


def read_checkpoint(path: Path, config: MimiConfig) -> dict[str, torch.Tensor]:
    """Read every weight of a codec as float32, under its official name.

    The layout is told by the keys; the transformers layout has its rotary permutation of q and k
    undone. Only safetensors are opened. Raises ModelMissingError, ModelDamagedError for what is
    no safetensors file, ShapeError that lists every missing, surplus and wrongly shaped tensor.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelMissingError(f"{path}: there is no such checkpoint")
    try:
        with safe_open(path, framework="pt") as stream:
            raw = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as exc:
        raise ModelDamagedError(
            f"{path}: not a whole safetensors file ({str(exc)[:100]}); "
            "only safetensors checkpoints are opened, convert others first"
        ) from exc
    weights = {key: tensor.to(torch.float32) for key, tensor in raw.items()}
    weights = _from_hub(weights, config) if is_hub_layout(weights) else _from_official(weights)
    check_weights(weights, weight_shapes(config), str(path))
    return weights


def is_hub_layout(names: Iterable[str]) -> bool:
    """Whether tensor names are of the transformers layout: it splits q, k and v."""
    return any(name.endswith(".self_attn.q_proj.weight") for name in names)


def check_weights(
    weights: Mapping[str, torch.Tensor], want: Mapping[str, tuple[int, ...]], name: str
) -> None:
    """Compare tensors with the shapes that a config asks for. Raises one ShapeError for all."""
    missing = sorted(set(want) - set(weights))
    surplus = sorted(key for key in set(weights) - set(want) if not key.endswith("._initialized"))
    wrong = [
        f"{key} {tuple(weights[key].shape)} not {shape}"
        for key, shape in sorted(want.items())
        if key in weights and tuple(weights[key].shape) != shape
    ]
    faults = [
        f"{len(found)} {kind} ({', '.join(found[:_MAX_NAMED])}"
        f"{', ...' if len(found) > _MAX_NAMED else ''})"
        for kind, found in (("missing", missing), ("surplus", surplus), ("misshapen", wrong))
        if found
    ]
    if faults:
        raise ShapeError(name, got="; ".join(faults), want="a Mimi checkpoint of this config")


def weight_shapes(config: MimiConfig) -> dict[str, tuple[int, ...]]:
    """Official name -> shape of every tensor that a codec of this config has."""
    width, positions = config.dimension, config.n_positions
    shapes = _seanet_shapes(config, "encoder") | _seanet_shapes(config, "decoder")
    for side in ("encoder_transformer", "decoder_transformer"):
        for layer in range(config.n_layers):
            prefix = f"{side}.transformer.layers.{layer}"
            shapes |= {
                f"{prefix}.self_attn.in_proj_weight": (3 * width, width),
                f"{prefix}.self_attn.out_proj.weight": (width, width),
                f"{prefix}.linear1.weight": (config.feedforward, width),
                f"{prefix}.linear2.weight": (width, config.feedforward),
                f"{prefix}.layer_scale_1.scale": (width,),
                f"{prefix}.layer_scale_2.scale": (width,),
            }
            for norm in ("norm1", "norm2"):
                shapes[f"{prefix}.{norm}.weight"] = shapes[f"{prefix}.{norm}.bias"] = (width,)
    if positions > 1:
        shapes["downsample.conv.conv.conv.weight"] = (width, width, 2 * positions)
        shapes["upsample.convtr.convtr.convtr.weight"] = (width, 1, 2 * positions)
    n_acoustic = config.n_codebooks - config.n_semantic
    for branch, n_levels in (("rvq_first", config.n_semantic), ("rvq_rest", n_acoustic)):
        if n_levels == 0:
            continue
        shapes[f"quantizer.{branch}.input_proj.weight"] = (config.codebook_dim, width, 1)
        shapes[f"quantizer.{branch}.output_proj.weight"] = (width, config.codebook_dim, 1)
        for level in range(n_levels):
            prefix = f"quantizer.{branch}.vq.layers.{level}._codebook"
            shapes[f"{prefix}.embedding_sum"] = (config.bins, config.codebook_dim)
            shapes[f"{prefix}.cluster_usage"] = (config.bins,)
    return shapes


def _seanet_shapes(config: MimiConfig, side: str) -> dict[str, tuple[int, ...]]:
    """The convolutions of one side; a module's index is its place in the official sequence."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, n_out: int, n_in: int, kernel: int) -> None:
        shapes[f"{side}.model.{name}.weight"] = (n_out, n_in, kernel)
        shapes[f"{side}.model.{name}.bias"] = (n_out,)

    def residual(index: int, width: int) -> None:
        hidden = width // config.compress
        conv(f"{index}.block.1.conv.conv", hidden, width, config.residual_kernel_size)
        conv(f"{index}.block.3.conv.conv", width, hidden, 1)

    n_residual, n_stages = config.n_residual_layers, len(config.ratios)
    index = 0
    if side == "encoder":
        width = config.n_filters
        conv("0.conv.conv", width, 1, config.kernel_size)
        for ratio in reversed(config.ratios):
            for _ in range(n_residual):
                residual(index := index + 1, width)
            conv(f"{index + 2}.conv.conv", 2 * width, width, 2 * ratio)
            index, width = index + 2, 2 * width
        conv(f"{index + 2}.conv.conv", config.dimension, width, config.last_kernel_size)
        return shapes
    width = config.n_filters * 2**n_stages
    conv("0.conv.conv", width, config.dimension, config.kernel_size)
    for ratio in config.ratios:
        shapes[f"{side}.model.{index + 2}.convtr.convtr.weight"] = (width, width // 2, 2 * ratio)
        shapes[f"{side}.model.{index + 2}.convtr.convtr.bias"] = (width // 2,)
        index, width = index + 2, width // 2
        for _ in range(n_residual):
            residual(index := index + 1, width)
    conv(f"{index + 2}.conv.conv", 1, width, config.last_kernel_size)
    return shapes


def _from_official(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """One spelling for what several releases named differently."""
    return {_respell(name, _OFFICIAL_SPELLINGS): tensor for name, tensor in weights.items()}


def _from_hub(weights: Mapping[str, torch.Tensor], config: MimiConfig) -> dict[str, torch.Tensor]:
    """Rename, undo the rotary permutation of q and k, and stack q, k and v."""
    import torch

    found: dict[str, torch.Tensor] = {}
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in weights.items():
        new = _respell(_respell(name, _HUB_SPELLINGS), _OFFICIAL_SPELLINGS)
        new = re.sub(r"^decoder\.(.*)\.conv\.(weight|bias)$", _decoder_conv_name(config), new)
        new = re.sub(r"^(encoder\..*)\.conv\.(weight|bias)$", r"\1.conv.conv.\2", new)
        split = re.fullmatch(r"(.*\.self_attn)\.([qkv])_proj\.weight", new)
        if split:
            parts.setdefault(split[1], {})[split[2]] = tensor
        else:
            found[new] = tensor
    for prefix, qkv in parts.items():
        if set(qkv) != set("qkv"):
            raise ShapeError(prefix, got=f"only {sorted(qkv)} projections", want="q, k and v")
        stacked = [interleave_rotary(qkv["q"], config), interleave_rotary(qkv["k"], config)]
        found[f"{prefix}.in_proj_weight"] = torch.cat([*stacked, qkv["v"]])
    return found


def _decoder_conv_name(config: MimiConfig) -> Callable[[re.Match[str]], str]:
    """Replacement for the decoder's convolutions: its upsampling ones are named convtr."""
    stride_indices = set()
    index = 0
    for _ in config.ratios:
        stride_indices.add(str(index + 2))
        index += 2 + config.n_residual_layers

    def name(match: re.Match[str]) -> str:
        place = match[1].removeprefix("model.")
        kind = "convtr.convtr" if place in stride_indices else "conv.conv"
        return f"decoder.{match[1]}.{kind}.{match[2]}"

    return name


def interleave_rotary(weight: torch.Tensor, config: MimiConfig) -> torch.Tensor:
    """Rows of a q or k projection from halves, (real..., imaginary...), to neighbours in pairs."""
    if tuple(weight.shape) != (config.dimension, config.dimension):
        want = (config.dimension, config.dimension)
        raise ShapeError("q or k projection", got=tuple(weight.shape), want=want)
    rows = weight.reshape(config.n_heads, 2, config.head_dim // 2, config.dimension)
    return rows.transpose(1, 2).reshape(weight.shape)


def _respell(name: str, spellings: Iterable[tuple[re.Pattern[str], str]]) -> str:
    """Apply every spelling rule in turn."""
    for pattern, new in spellings:
        name = pattern.sub(new, name)
    return name
