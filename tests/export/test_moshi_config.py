"""Official configs in our words, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge.errors import ConfigError
from export.moshi_config import LEGACY, parse_config, read_config
from tests.moshi_models import CONFIGS

SMALL = CONFIGS["moshi"]


def test_the_published_7b_is_what_its_card_says() -> None:
    delays = [0, 0, *[1] * 7, 0, *[1] * 7]
    config = parse_config({**LEGACY, "delays": delays})
    assert (config.dim, config.n_layers, config.head_dim, config.kv_dim) == (4096, 32, 128, 4096)
    assert (config.n_q, config.dep_q, config.n_own, config.context) == (16, 8, 8, 3000)
    assert config.depth is not None
    assert (config.depth.n_sets, config.depth.n_layers, config.depth.dim) == (8, 6, 1024)


def test_half_of_a_personaplex_is_the_user() -> None:
    config = parse_config(CONFIGS["personaplex"])
    assert (config.n_q, config.dep_q, config.n_own) == (8, 8, 4)


def test_a_schedule_says_how_many_sets_of_weights_there_are() -> None:
    depth = parse_config(CONFIGS["hibiki"]).depth
    assert depth is not None
    assert (depth.schedule, depth.n_sets, depth.low_rank) == ((0, 1, 2, 3, 3, 3), 4, 16)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"norm": "layer_norm"}, "norm = layer_norm"),
        ({"layer_scale": 0.01}, "layer_scale = 0.01"),
        ({"gating": "none"}, "gating = none"),
        ({"positional_embedding": "sin"}, "positional_embedding = sin"),
        ({"bias_proj": True}, "bias_proj"),
        ({"cross_attention": True}, "cross_attention"),
        ({"demux_second_stream": True}, "demux_second_stream"),
        ({"depformer_gating": "none"}, "depformer_gating = none"),
        ({"depformer_layer_scale": 0.1}, "depformer_layer_scale"),
        ({"depformer_pos_emb": "rope"}, "depformer_pos_emb = rope"),
        ({"depformer_weights_per_step": False}, "depformer_weights_per_step"),
        ({"context": None}, "no context"),
        ({"delays": [0, 0, 1]}, "3 delays for 8 audio streams"),
        ({"num_heads": 3}, "64 channels in 3 heads"),
        ({"dep_q": 9}, "dep_q 9 above n_q 8"),
        ({"depformer_weights_per_step_schedule": [0, 1]}, "schedule of 2 for dep_q 4"),
        ({"depformer_norm": "batch_norm"}, "depformer_norm batch_norm"),
        ({"dim": "wide"}, "wrong kind"),
        ({"fuser": {"cross": ["description"]}}, "fused by cross"),
    ],
)
def test_what_cannot_be_expressed_is_refused_by_name(change: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        parse_config({**SMALL, **change})


def test_the_official_toy_model_is_refused_with_every_reason() -> None:
    """What its test builds: llama.cpp's GELU comes from a table and is not exact."""
    toy = {key: value for key, value in CONFIGS["toy"].items() if not key.startswith("depformer")}
    toy |= {"norm": "layer_norm", "gating": "none", "positional_embedding": "sin"}
    toy |= {"depformer_gating": "silu", "depformer_weights_per_step": True}
    with pytest.raises(ConfigError) as failure:
        parse_config(toy)
    for reason in ("norm = layer_norm", "gating = none", "positional_embedding = sin"):
        assert reason in str(failure.value)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match="num_layers is missing"):
        parse_config({key: value for key, value in SMALL.items() if key != "num_layers"})


def test_an_unknown_key_is_a_warning_and_keys_of_other_parts_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parse_config({**SMALL, "moshi_name": "x", "lm_gen_config": {"temp": 0.5}, "surprise": 1})
    assert [record.getMessage() for record in caplog.records] == [
        "config: unknown key surprise is ignored"
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (json.dumps({"architectures": ["LlamaForCausalLM"]}), "another model family"),
        (json.dumps({"model_type": "qwen2"}), "another model family"),
        ("[1, 2]", "want one JSON object"),
        ("{", "not a readable JSON"),
    ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_config(path)
