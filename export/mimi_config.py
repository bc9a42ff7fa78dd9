"""MimiConfig: the sizes of a Mimi codec, read from either of the two published config layouts."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge.errors import ConfigError
from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MimiConfig:
    """Every size of a codec of the Mimi architecture; the defaults are the published one.

    ratios: the decoder's upsampling ratios, the encoder runs them backwards. context: attention
    window in positions. codebook_dim: width of a code's vector. n_codebooks: how many the
    checkpoint has, of which the first n_semantic form a branch of their own.
    """

    n_filters: int = 64
    dimension: int = 512
    kernel_size: int = 7
    residual_kernel_size: int = 3
    last_kernel_size: int = 3
    n_residual_layers: int = 1
    dilation_base: int = 2
    compress: int = 2
    ratios: tuple[int, ...] = (8, 6, 5, 4)
    n_heads: int = 8
    n_layers: int = 8
    feedforward: int = 2048
    context: int = 250
    max_period: float = 10_000.0
    codebook_dim: int = 256
    n_codebooks: int = 32
    n_semantic: int = 1
    bins: int = 2048

    def __post_init__(self) -> None:
        sizes = [value for value in asdict(self).values() if isinstance(value, int)]
        if min([*sizes, *self.ratios, len(self.ratios)]) < 1:
            raise ConfigError(f"Mimi config: every size must be at least 1: {asdict(self)}")
        if FRAME_SAMPLES % self.hop_samples:
            raise ConfigError(
                f"Mimi config: ratios {self.ratios} give steps of {self.hop_samples} samples, "
                f"which do not divide a frame of {FRAME_SAMPLES}"
            )
        if self.dimension % self.n_heads or (self.dimension // self.n_heads) % 2:
            raise ConfigError(
                f"Mimi config: {self.dimension} channels do not split into {self.n_heads} heads "
                "of an even width"
            )
        if self.context <= self.n_positions:
            raise ConfigError(
                f"Mimi config: a context of {self.context} must exceed the "
                f"{self.n_positions} positions of a frame"
            )
        if self.n_semantic > self.n_codebooks:
            raise ConfigError(
                f"Mimi config: {self.n_semantic} semantic codebooks of {self.n_codebooks}"
            )

    @property
    def hop_samples(self) -> int:
        """Samples of one transformer position."""
        return math.prod(self.ratios)

    @property
    def n_positions(self) -> int:
        """Transformer positions of one frame: 2 in the published codec."""
        return FRAME_SAMPLES // self.hop_samples

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dimension // self.n_heads

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        return {**asdict(self), "ratios": list(self.ratios)}


# Keys of the published layout's three sub-tables: ours, or the only value that is supported.
_SEANET = {
    "n_filters": "n_filters",
    "dimension": "dimension",
    "kernel_size": "kernel_size",
    "residual_kernel_size": "residual_kernel_size",
    "last_kernel_size": "last_kernel_size",
    "n_residual_layers": "n_residual_layers",
    "dilation_base": "dilation_base",
    "compress": "compress",
    "ratios": "ratios",
}
_SEANET_FIXED = {
    "channels": 1,
    "causal": True,
    "activation": "ELU",
    "norm": "none",
    "pad_mode": "constant",
    "true_skip": True,
    "trim_right_ratio": 1.0,
    "disable_norm_outer_blocks": 0,
}
_TRANSFORMER = {
    "num_heads": "n_heads",
    "num_layers": "n_layers",
    "dim_feedforward": "feedforward",
    "context": "context",
    "max_period": "max_period",
}
_TRANSFORMER_FIXED = {
    "causal": True,
    "conv_layout": True,
    "gating": "none",
    "norm": "layer_norm",
    "positional_embedding": "rope",
}
_QUANTIZER = {
    "dimension": "codebook_dim",
    "n_q": "n_codebooks",
    "n_q_semantic": "n_semantic",
    "bins": "bins",
}
_HUB = {
    "num_filters": "n_filters",
    "hidden_size": "dimension",
    "kernel_size": "kernel_size",
    "residual_kernel_size": "residual_kernel_size",
    "last_kernel_size": "last_kernel_size",
    "num_residual_layers": "n_residual_layers",
    "dilation_growth_rate": "dilation_base",
    "compress": "compress",
    "upsampling_ratios": "ratios",
    "num_attention_heads": "n_heads",
    "num_hidden_layers": "n_layers",
    "intermediate_size": "feedforward",
    "sliding_window": "context",
    "rope_theta": "max_period",
    "codebook_dim": "codebook_dim",
    "num_quantizers": "n_codebooks",
    "num_semantic_quantizers": "n_semantic",
    "codebook_size": "bins",
}
_HUB_FIXED = {
    "audio_channels": 1,
    "sampling_rate": SAMPLE_RATE_HZ,
    "use_causal_conv": True,
    "pad_mode": "constant",
    "use_conv_shortcut": False,
    "trim_right_ratio": 1.0,
    "hidden_act": "gelu",
    "attention_bias": False,
    "norm_eps": 1e-5,
}


def load_config(path: Path | None) -> MimiConfig:
    """Read a config file of either layout; None gives the published codec.

    Raises ConfigError where the file is no JSON object or describes a net of another kind.
    """
    if path is None:
        return MimiConfig()
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{path}: cannot be read as JSON ({exc})") from exc
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: want a JSON object")
    return parse_config(table, str(path))


def parse_config(table: Mapping[str, Any], name: str) -> MimiConfig:
    """Make a MimiConfig of a parsed config file; `name` is for messages. Raises ConfigError."""
    if "seanet" in table:
        return _parse_official(table, name)
    if table.get("model_type") == "mimi":
        return _parse_hub(table, name)
    raise ConfigError(f"{name}: neither a Mimi config with a `seanet` table nor model_type mimi")


def _parse_official(table: Mapping[str, Any], name: str) -> MimiConfig:
    """The layout with the sub-tables seanet, transformer and quantizer."""
    if table.get("sample_rate", SAMPLE_RATE_HZ) != SAMPLE_RATE_HZ:
        raise ConfigError(f"{name}: sample_rate must be {SAMPLE_RATE_HZ}")
    found: dict[str, Any] = {}
    widths = set()
    for part, names, fixed in (
        ("seanet", _SEANET, _SEANET_FIXED),
        ("transformer", _TRANSFORMER, _TRANSFORMER_FIXED),
        ("quantizer", _QUANTIZER, {}),
    ):
        sub = dict(table.get(part) or {})
        for key in ("d_model", "input_dimension", "output_dimension", "output_dimensions"):
            value = sub.pop(key, None)
            widths.add(value[0] if isinstance(value, list | tuple) else value)
        sub.pop("layer_scale", None)  # only the initial value of what the checkpoint holds
        found |= _take(sub, names, fixed, f"{name}: {part}")
    if not widths <= {None, found.get("dimension")}:
        raise ConfigError(f"{name}: one width is supported throughout, got {widths - {None}}")
    return _build(found, name)


def _parse_hub(table: Mapping[str, Any], name: str) -> MimiConfig:
    """The transformers layout: one flat table."""
    flat = dict(table)
    rope = flat.pop("rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default":
        raise ConfigError(f"{name}: rope_type {rope['rope_type']!r} is not supported")
    flat.setdefault("rope_theta", rope.get("rope_theta", 10_000.0))
    known = {key: value for key, value in flat.items() if key in _HUB or key in _HUB_FIXED}
    groups = flat.get("upsample_groups", flat.get("hidden_size"))
    if groups != flat.get("hidden_size"):
        raise ConfigError(f"{name}: upsample_groups must equal hidden_size")
    for key, want in (
        ("vector_quantization_hidden_dimension", flat.get("codebook_dim")),
        ("num_key_value_heads", flat.get("num_attention_heads")),
    ):
        if flat.get(key, want) != want:
            raise ConfigError(f"{name}: {key} must be {want}")
    return _build(_take(known, _HUB, _HUB_FIXED, name), name)


def _take(
    sub: Mapping[str, Any], names: Mapping[str, str], fixed: Mapping[str, Any], name: str
) -> dict[str, Any]:
    """Rename what we know, refuse what we cannot compute, warn of what nobody knows."""
    found = {}
    for key, value in sub.items():
        if key in names:
            found[names[key]] = tuple(value) if isinstance(value, list) else value
        elif key in fixed:
            if value != fixed[key]:
                raise ConfigError(f"{name}: {key} = {value!r} is not supported, only {fixed[key]}")
        elif not key.endswith(("_params", "_kwargs")):
            log.warning("%s: unknown key %s is ignored", name, key)
    return found


def _build(found: Mapping[str, Any], name: str) -> MimiConfig:
    """Construct, after a look at every value's kind. Raises ConfigError with the file's name."""
    published = asdict(MimiConfig())
    for key, value in found.items():
        parts = value if isinstance(published[key], tuple) and isinstance(value, tuple) else [value]
        want = (int, float) if isinstance(published[key], float) else (int,)
        if any(not isinstance(part, want) or isinstance(part, bool) for part in parts):
            raise ConfigError(f"{name}: {key} = {value!r} is not a size")
    return MimiConfig(**found)
