"""Drawing tokens: greedy, top-k, and the distribution that comes out."""

from __future__ import annotations

import numpy as np
import pytest

from edge.errors import UsageError
from runtime.models.multistream.sampling import (
    GREEDY,
    Sampling,
    draw,
    gumbel,
    make_sampling,
    top_indices,
)


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
