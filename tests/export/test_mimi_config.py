"""Mimi configs: both published layouts give the same sizes, and nonsense is refused."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from edge.errors import ConfigError
from export.mimi_config import MimiConfig, load_config, parse_config
from tests.export.mimi_oracle import SMALL, official_table

HUB: dict[str, Any] = {
    "model_type": "mimi",
    "audio_channels": 1,
    "sampling_rate": 24000,
    "num_filters": 64,
    "hidden_size": 512,
    "num_residual_layers": 1,
    "upsampling_ratios": [8, 6, 5, 4],
    "kernel_size": 7,
    "last_kernel_size": 3,
    "residual_kernel_size": 3,
    "dilation_growth_rate": 2,
    "compress": 2,
    "codebook_size": 2048,
    "codebook_dim": 256,
    "num_quantizers": 32,
    "num_semantic_quantizers": 1,
    "vector_quantization_hidden_dimension": 256,
    "upsample_groups": 512,
    "num_hidden_layers": 8,
    "intermediate_size": 2048,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "sliding_window": 250,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
    "transformers_version": "5.0.0",
}


def test_without_a_file_it_is_the_published_codec() -> None:
    config = load_config(None)
    assert (config.hop_samples, config.n_positions, config.head_dim) == (960, 2, 64)
    assert config == parse_config(HUB, "hub") == parse_config(official_table(config), "official")


def test_other_sizes_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(official_table(SMALL)), encoding="utf-8")
    assert load_config(path) == SMALL


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seanet": {"norm": "weight_norm"}}, "norm"),
        ({"seanet": {"pad_mode": "reflect"}}, "pad_mode"),
        ({"seanet": {"ratios": [7, 3]}}, "ratios"),
        ({"seanet": {"n_filters": "64"}}, "n_filters"),
        ({"seanet": {"n_filters": 0}}, "at least 1"),
        ({"transformer": {"gating": "silu"}}, "gating"),
        ({"transformer": {"num_heads": 5}}, "heads"),
        ({"transformer": {"context": 2}}, "context"),
        ({"transformer": {"d_model": 48}}, "width"),
        ({"quantizer": {"n_q_semantic": 9}}, "semantic"),
    ],
)
def test_what_cannot_be_computed_is_refused(change: dict[str, dict[str, Any]], said: str) -> None:
    table = official_table(SMALL)
    for part, keys in change.items():
        table[part] = {**table[part], **keys}
    with pytest.raises(ConfigError, match=said):
        parse_config(table, "changed")


@pytest.mark.parametrize(
    ("key", "value"),
    [("use_conv_shortcut", True), ("upsample_groups", 1), ("num_key_value_heads", 4)],
)
def test_a_hub_config_of_another_net_is_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        parse_config({**HUB, key: value}, "hub")


def test_an_unknown_key_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    table = official_table(SMALL)
    table["seanet"] = {**table["seanet"], "colour": "blue"}
    with caplog.at_level(logging.WARNING):
        assert parse_config(table, "new") == SMALL
    assert "colour" in caplog.text


def test_a_broken_file_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for text in ("{", "[1]", '{"dim": 4096}'):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=r"config\.json"):
            load_config(path)
    with pytest.raises(ConfigError, match="absent"):
        load_config(tmp_path / "absent.json")


def test_sizes_survive_a_manifest() -> None:
    assert dataclasses.asdict(SMALL) == {**SMALL.as_dict(), "ratios": SMALL.ratios}
    assert MimiConfig(**{**SMALL.as_dict(), "ratios": tuple(SMALL.as_dict()["ratios"])}) == SMALL
