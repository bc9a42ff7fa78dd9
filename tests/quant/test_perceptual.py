"""Equal sounds score equally, wherever they lie in memory."""

from __future__ import annotations

import numpy as np
import pytest

from quant.quality.perceptual import RATE_HZ, Float32, estoi


def placed(pcm: Float32, offset: int) -> Float32:
    """The same samples, so many samples off the beginning of a block of memory."""
    block = np.empty(len(pcm) + offset, np.float32)
    block[offset:] = pcm
    return block[offset:]


def test_estoi_does_not_depend_on_where_the_samples_lie() -> None:
    compare = estoi()
    if isinstance(compare, str):
        pytest.skip(compare)
    random = np.random.default_rng(3)
    t = np.arange(3 * RATE_HZ) / RATE_HZ
    syllables = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * t)
    speech = (0.1 * syllables * random.standard_normal(len(t))).astype(np.float32)
    other = (speech + 0.03 * random.standard_normal(len(t))).astype(np.float32)
    scores = {compare(placed(speech, k), placed(other, 7 * k % 16)) for k in range(16)}
    assert len(scores) == 1
    assert 0.2 < scores.pop() < 0.99
    assert compare(placed(speech, 1), placed(speech, 2)) == 1.0
