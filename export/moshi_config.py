"""MoshiConfig: the sizes of a multistream transformer, from an official config."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.errors import ConfigError

log = logging.getLogger(__name__)

RMS_EPSILON = {"rms_norm": 1e-5, "rms_norm_f32": 1e-8}
LAYER_EPSILON = {"layer_norm": 1e-5, "layer_norm_f32": 1e-8}

MODEL_TYPES = ("moshi", "hibiki", "personaplex", "stt", "tts")

# What the published 7B checkpoints without a config.json are.
LEGACY: Mapping[str, Any] = {
    "dim": 4096,
    "text_card": 32_000,
    "existing_text_padding_id": 3,
    "n_q": 16,
    "dep_q": 8,
    "card": 2048,
    "num_heads": 32,
    "num_layers": 32,
    "hidden_scale": 4.125,
    "layer_scale": None,
    "context": 3000,
    "max_period": 10_000,
    "gating": "silu",
    "norm": "rms_norm_f32",
    "positional_embedding": "rope",
    "depformer_dim": 1024,
    "depformer_num_heads": 16,
    "depformer_num_layers": 6,
    "depformer_multi_linear": True,
    "depformer_pos_emb": "none",
    "depformer_weights_per_step": True,
}
LEGACY_HEAD_DIM = 128
LEGACY_DEPTH_HEAD_DIM = 64

# Keys that are no sizes of the network, or whose sizes are read from the tensors.
_IGNORED = frozenset({
    "moshi_name", "mimi_name", "mimi_config_name", "tokenizer_name", "lora_name", "model_type",
    "lm_gen_config", "tts_config", "stt_config", "model_id", "version", "causal",
    "depformer_causal", "depformer_context", "depformer_max_period", "hidden_scale",
    "depformer_dim_feedforward", "dim_feedforward", "quantize", "betas", "gradient_checkpointing",
    "lora", "lora_rank", "lora_scaling", "conditioners", "fuser",
})  # fmt: skip
_KNOWN = frozenset({
    "dim", "text_card", "text_card_out", "n_q", "dep_q", "card", "num_heads", "num_layers",
    "kv_repeat", "context", "max_period", "gating", "norm", "positional_embedding", "layer_scale",
    "delays", "norm_emb", "bias_proj", "cross_attention", "demux_second_stream",
    "demux_second_text_stream", "existing_text_padding_id", "existing_text_end_padding_id",
    "extra_heads_num_heads", "extra_heads_dim", "positional_scale", "depformer_dim",
    "depformer_num_heads", "depformer_num_layers", "depformer_multi_linear",
    "depformer_weights_per_step", "depformer_weights_per_step_schedule", "depformer_pos_emb",
    "depformer_norm", "depformer_low_rank_embeddings", "depformer_gating", "depformer_layer_scale",
    "depformer_kv_repeat",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class DepthConfig:
    """The depth transformer, which writes one frame's codes one codebook after the other.

    schedule: for each step the set of weights it uses. multi_linear: one input projection a set
    instead of one for all. low_rank: width of the embedding tables, 0 where it is dim.
    norm: of the layers; out_norm: before each head, "" for none.
    """

    dim: int
    n_heads: int
    n_layers: int
    kv_repeat: int
    norm: str
    out_norm: str
    schedule: tuple[int, ...]
    multi_linear: bool
    low_rank: int
    sin_positions: bool

    @property
    def n_sets(self) -> int:
        """How many sets of weights there are."""
        return max(self.schedule) + 1

    @property
    def n_inputs(self) -> int:
        """How many input projections there are."""
        return self.n_sets if self.multi_linear else 1


@dataclass(frozen=True, slots=True)
class ConditionerConfig:
    """A lookup table whose projected row is added to every input (Hibiki's "description")."""

    name: str
    n_bins: int
    dim: int
    values: tuple[str, ...]
    learn_padding: bool


@dataclass(frozen=True, slots=True)
class MoshiConfig:
    """Every size that the tensors alone do not tell, checked and in our words.

    delays: of text, own streams and user streams, in frames. n_q: audio streams that are input.
    dep_q: codes the depth transformer of the checkpoint writes, 0 where there is none.
    n_own: streams that the model speaks, of which what it writes is fed back; the other
    n_q - n_own are the user's.
    """

    model_type: str
    dim: int
    n_heads: int
    n_layers: int
    kv_repeat: int
    norm: str
    max_period: float
    rope_interleaved: bool
    context: int
    n_q: int
    dep_q: int
    n_own: int
    card: int
    text_card: int
    text_card_out: int
    delays: tuple[int, ...]
    norm_emb: bool
    text_padding_id: int
    text_end_padding_id: int
    n_extra_heads: int
    extra_head_dim: int
    depth: DepthConfig | None
    conditioners: tuple[ConditionerConfig, ...] = ()
    lora_rank: int = 0
    lora_scaling: float = 2.0
    generation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def head_dim(self) -> int:
        """Width of one attention head of the main transformer."""
        return self.dim // self.n_heads

    @property
    def kv_dim(self) -> int:
        """Width of its keys, and of its values."""
        return self.head_dim * (self.n_heads // self.kv_repeat)


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in an official config.json. Raises ConfigError, also for other families."""
    try:
        raw = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a readable JSON file ({error})") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: want one JSON object, got {type(raw).__name__}")
    family = raw.get("model_type", "moshi")
    if "architectures" in raw or family not in MODEL_TYPES:
        what = raw.get("architectures") or family
        raise ConfigError(
            f"{path}: this describes another model family ({what}); "
            f"want a Moshi config of type {', '.join(MODEL_TYPES)}"
        )
    return raw


def parse_config(raw: Mapping[str, Any]) -> MoshiConfig:
    """Check an official config and put it in our words.

    Raises ConfigError that names what is missing, or what the artifact cannot express.
    """
    for key in sorted(set(raw) - _IGNORED - _KNOWN):
        log.warning("config: unknown key %s is ignored", key)
    _refuse(raw)
    try:
        return _build(raw)
    except KeyError as error:
        raise ConfigError(f"config: {error.args[0]} is missing") from error
    except (TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"config: a value is of the wrong kind ({error})") from error


def _refuse(raw: Mapping[str, Any]) -> None:
    """Name what the main transformer's GGUF architecture or our depth graph cannot express."""
    norm, positions = raw.get("norm", "layer_norm"), raw.get("positional_embedding", "sin")
    reasons = {
        f"norm = {norm}": norm not in RMS_EPSILON,
        f"layer_scale = {raw.get('layer_scale')}": raw.get("layer_scale") is not None,
        f"gating = {raw.get('gating', 'none')}": raw.get("gating", "none") != "silu",
        f"positional_embedding = {positions}": positions not in ("rope", "rope_concat"),
        "bias_proj = true": bool(raw.get("bias_proj")),
        "cross_attention = true": bool(raw.get("cross_attention")),
        "demux_second_stream = true": bool(
            raw.get("demux_second_stream") or raw.get("demux_second_text_stream")
        ),
        "quantize = true": bool(raw.get("quantize")),
        "causal = false": raw.get("causal") is False,
        "no context": not raw.get("context"),
    }
    if raw.get("dep_q", 8):
        gating = raw.get("depformer_gating", raw.get("gating"))
        scale = raw.get("depformer_layer_scale", raw.get("layer_scale"))
        pos = raw.get("depformer_pos_emb", "sin")
        reasons |= {
            f"depformer_gating = {gating}": gating != "silu",
            f"depformer_layer_scale = {scale}": scale is not None,
            f"depformer_pos_emb = {pos}": pos not in ("none", "sin"),
            "depformer_weights_per_step = false": not raw.get("depformer_weights_per_step"),
        }
    bad = [reason for reason, applies in reasons.items() if applies]
    if bad:
        raise ConfigError(
            f"this model has {', '.join(bad)}, which the artifact cannot express; it needs a main "
            "transformer with rms_norm, silu gating, rope and a context, without layer scale"
        )


def _build(raw: Mapping[str, Any]) -> MoshiConfig:
    n_q, dep_q, text_card = int(raw["n_q"]), int(raw["dep_q"]), int(raw["text_card"])
    model_type = str(raw.get("model_type", "moshi"))
    n_own = n_q // 2 if model_type == "personaplex" else dep_q
    config = MoshiConfig(
        model_type=model_type,
        dim=int(raw["dim"]),
        n_heads=int(raw["num_heads"]),
        n_layers=int(raw["num_layers"]),
        kv_repeat=int(raw.get("kv_repeat", 1)),
        norm=str(raw["norm"]),
        max_period=float(raw.get("max_period", 10_000)),
        rope_interleaved=raw["positional_embedding"] == "rope",
        context=int(raw["context"]),
        n_q=n_q,
        dep_q=dep_q,
        n_own=n_own,
        card=int(raw["card"]),
        text_card=text_card,
        text_card_out=int(raw.get("text_card_out") or text_card),
        delays=tuple(int(delay) for delay in raw["delays"]),
        norm_emb=bool(raw.get("norm_emb", False)),
        text_padding_id=int(raw.get("existing_text_padding_id", 3)),
        text_end_padding_id=int(raw.get("existing_text_end_padding_id", 0)),
        n_extra_heads=int(raw.get("extra_heads_num_heads", 0)),
        extra_head_dim=int(raw.get("extra_heads_dim", 6)),
        depth=_depth(raw, dep_q) if dep_q else None,
        conditioners=_conditioners(raw),
        lora_rank=int(raw.get("lora_rank", 128)) if raw.get("lora") else 0,
        lora_scaling=float(raw.get("lora_scaling", 2.0)),
        generation=dict(raw.get("lm_gen_config") or {}),
    )
    _check(config)
    return config


def _depth(raw: Mapping[str, Any], dep_q: int) -> DepthConfig:
    schedule = raw.get("depformer_weights_per_step_schedule") or range(dep_q)
    return DepthConfig(
        dim=int(raw["depformer_dim"]),
        n_heads=int(raw["depformer_num_heads"]),
        n_layers=int(raw.get("depformer_num_layers", raw["num_layers"])),
        kv_repeat=int(raw.get("depformer_kv_repeat", raw.get("kv_repeat", 1))),
        norm=str(raw["norm"]),
        out_norm=str(raw.get("depformer_norm") or ""),
        schedule=tuple(int(index) for index in schedule),
        multi_linear=bool(raw.get("depformer_multi_linear", False)),
        low_rank=int(raw.get("depformer_low_rank_embeddings") or 0),
        sin_positions=raw.get("depformer_pos_emb", "sin") == "sin",
    )


def _conditioners(raw: Mapping[str, Any]) -> tuple[ConditionerConfig, ...]:
    """The lookup-table conditioners that the fuser sums into the input."""
    fuser = raw.get("fuser") or {}
    for method in ("cross", "prepend"):
        if fuser.get(method):
            raise ConfigError(
                f"config: conditions {fuser[method]} are fused by {method}; only sums are supported"
            )
    found = []
    for name, entry in (raw.get("conditioners") or {}).items():
        if entry.get("type") != "lut" or name not in fuser.get("sum", []):
            raise ConfigError(
                f"config: conditioner {name} of type {entry.get('type')} is not supported; "
                "only lookup tables that are summed into the input are"
            )
        table = entry["lut"]
        if table.get("output_bias") or table.get("tokenizer", "noop") != "noop":
            raise ConfigError(f"config: conditioner {name} has a bias or tokenizer of its own")
        found.append(
            ConditionerConfig(
                name=str(name),
                n_bins=int(table["n_bins"]),
                dim=int(table["dim"]),
                values=tuple(table.get("possible_values") or ()),
                learn_padding=bool(table.get("learn_padding", True)),
            )
        )
    return tuple(found)


def _check(config: MoshiConfig) -> None:
    """Sizes that must agree with each other. Raises ConfigError."""
    problems = {
        f"{len(config.delays)} delays for {config.n_q} audio streams and text": len(config.delays)
        != config.n_q + 1,
        "a negative delay": min(config.delays, default=0) < 0,
        f"{config.dim} channels in {config.n_heads} heads": config.dim % config.n_heads != 0
        or config.head_dim % 2 != 0,
        f"{config.n_heads} heads with kv_repeat {config.kv_repeat}": config.n_heads
        % config.kv_repeat
        != 0,
        f"dep_q {config.dep_q} above n_q {config.n_q}": config.dep_q > config.n_q,
        "a size below 1": min(config.dim, config.n_layers, config.card, config.text_card) < 1,
    }
    depth = config.depth
    if depth is not None:
        known = depth.norm in RMS_EPSILON and depth.out_norm in {"", *RMS_EPSILON, *LAYER_EPSILON}
        problems |= {
            f"a schedule of {len(depth.schedule)} for dep_q {config.dep_q}": len(depth.schedule)
            != config.dep_q,
            f"depformer_norm {depth.out_norm}": not known,
            f"{depth.dim} depth channels in {depth.n_heads} heads": depth.dim % depth.n_heads != 0,
            f"depth kv_repeat {depth.kv_repeat}": depth.n_heads % depth.kv_repeat != 0,
        }
    bad = [problem for problem, applies in problems.items() if applies]
    if bad:
        raise ConfigError(f"config: {', '.join(bad)}: these sizes do not fit together")
