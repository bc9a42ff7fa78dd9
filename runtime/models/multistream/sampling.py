"""Drawing tokens: temperature and top-k with noise that is passed in, so that runs repeat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.errors import UsageError

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one kind of token is drawn. temperature: above 0; top_k: from how many of the best.

    top_k 1 is the best token itself, whatever the temperature and noise.
    """

    temperature: float
    top_k: int

    def __post_init__(self) -> None:
        if not 0.0 < self.temperature < 100.0:
            raise UsageError(f"temperature must be above 0 and below 100, got {self.temperature}")
        if self.top_k < 1:
            raise UsageError(f"top_k must be at least 1, got {self.top_k}")

    @property
    def greedy(self) -> bool:
        """Whether noise makes no difference."""
        return self.top_k == 1


GREEDY = Sampling(1.0, 1)


def make_sampling(temperature: float, top_k: int, *, n_tokens: int) -> Sampling:
    """A temperature of 0 is greedy and a top_k of 0 takes all, as the official options mean it."""
    if temperature == 0:
        return GREEDY
    return Sampling(temperature, min(top_k, n_tokens) if top_k else n_tokens)


def gumbel(rng: np.random.Generator, shape: tuple[int, ...]) -> Float32:
    """Gumbel noise, float32: added to logits, their argmax is a draw from their softmax."""
    waits = rng.standard_exponential(shape, np.float32)
    return -np.log(np.maximum(waits, np.finfo(np.float32).tiny))


def draw(logits: Float32, sampling: Sampling, noise: Float32) -> int:
    """One token from logits float32 (n,).

    noise: float32 (at least top_k,), for the best logit, the second best and so on; equal logits
    rank by index, lowest first.
    """
    if sampling.greedy:
        return int(np.argmax(logits))
    best = top_indices(logits, sampling.top_k)
    scores = logits[best] * np.float32(1.0 / sampling.temperature) + noise[: len(best)]
    return int(best[np.argmax(scores)])


def top_indices(logits: Float32, k: int) -> NDArray[np.intp]:
    """Indices of the k best in falling order; of equal ones the lowest index first."""
    n = len(logits)
    if k >= n:
        return np.argsort(-logits, kind="stable")
    worst = np.partition(logits, n - k)[n - k]
    found = np.flatnonzero(logits >= worst)
    return found[np.argsort(-logits[found], kind="stable")][:k]
