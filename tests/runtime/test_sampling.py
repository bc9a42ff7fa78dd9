"""Drawing tokens: greedy, top-k, and the distribution that comes out."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from edge.errors import UsageError
from export.depth_net import export_depth
from export.moshi_checkpoint import MoshiCheckpoint
from runtime.backends.ort import open_session
from runtime.models.multistream.depth import DepthStep
from runtime.models.multistream.sampling import (
    GREEDY,
    Sampling,
    draw,
    gumbel,
    make_sampling,
    top_indices,
)
from tests.moshi_models import CONFIGS, random_weights, write_safetensors


def test_top_indices_are_those_of_a_stable_sort() -> None:
    rng = np.random.default_rng(0)
    for k in (1, 2, 7, 63, 64):
        logits = rng.integers(0, 12, 64).astype(np.float32)  # many equal ones
        expected = sorted(range(64), key=lambda i: (-logits[i], i))[:k]
        assert top_indices(logits, k).tolist() == expected


def test_greedy_takes_the_best_whatever_the_noise() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        logits = rng.standard_normal(40).astype(np.float32)
        assert draw(logits, GREEDY, gumbel(rng, (1,))) == int(np.argmax(logits))


def test_draws_have_the_distribution_of_temperature_and_top_k() -> None:
    rng = np.random.default_rng(2)
    logits = rng.standard_normal(50).astype(np.float32) * 2
    how = Sampling(0.8, 12)
    n_draws = 20_000
    counts = np.zeros(50)
    for noise in gumbel(rng, (n_draws, 12)):
        counts[draw(logits, how, noise)] += 1
    best = np.argsort(-logits)[:12]
    weights = np.exp(logits[best].astype(np.float64) / 0.8)
    expected = n_draws * weights / weights.sum()
    assert counts.sum() == counts[best].sum() == n_draws
    chi_square = float((((counts[best] - expected) ** 2) / expected).sum())
    assert chi_square < 31.26  # 99.9 % of chi-square with 11 degrees of freedom


def test_official_zeros_mean_greedy_and_everything() -> None:
    assert make_sampling(0.0, 25, n_tokens=100) == GREEDY
    assert make_sampling(0.7, 0, n_tokens=100) == Sampling(0.7, 100)
    assert make_sampling(0.7, 250, n_tokens=100) == Sampling(0.7, 100)


@pytest.mark.parametrize(("temperature", "top_k"), [(-1.0, 5), (float("nan"), 5), (0.5, -3)])
def test_senseless_options_are_refused(temperature: float, top_k: int) -> None:
    with pytest.raises(UsageError):
        make_sampling(temperature, top_k, n_tokens=100)


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime")),
    reason="needs onnx and onnxruntime",
)
def test_the_depth_graph_draws_from_the_same_distribution(tmp_path: Path) -> None:
    """Temperature, top-k and noise inside the graph: 20 000 draws of a first code."""
    raw = CONFIGS["moshi"] | {"dep_q": 1, "n_q": 2, "delays": [0, 0, 0], "depformer_num_layers": 1}
    path = write_safetensors(tmp_path / "model.safetensors", random_weights(raw, 1))
    export_depth(MoshiCheckpoint(path, raw), tmp_path / "depth.onnx", n_steps=1)
    session = open_session(tmp_path / "depth.onnx")
    how, rng = Sampling(1.3, 12), np.random.default_rng(2)
    step = DepthStep(session, rows=1, sampling=how)
    hidden = rng.standard_normal((1, raw["dim"])).astype(np.float32)
    counts = np.zeros(raw["card"])
    n_draws = 20_000
    for _ in range(n_draws):
        counts[step.run(hidden, 7, rng)] += 1
    logits = step.logits[0].astype(np.float64)
    best = np.argsort(-logits)[:12]
    weights = np.exp((logits[best] - logits[best[0]]) / how.temperature)
    expected = n_draws * weights / weights.sum()
    assert counts.sum() == counts[best].sum() == n_draws
    often = expected > 5  # the others together are one class
    found = np.append(counts[best][often], counts[best][~often].sum())
    wanted = np.append(expected[often], expected[~often].sum())
    chi_square = float(((found - wanted)[wanted > 0] ** 2 / wanted[wanted > 0]).sum())
    assert often.sum() >= 5
    assert chi_square < 31.26  # 99.9 % of chi-square with 11 degrees of freedom
