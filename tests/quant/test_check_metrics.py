"""The metrics' own check: a real Opus encoder, and an order that is found wrong when it is."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from quant.quality.waves import mel_distance_db
from scripts.check_metrics import CONDITIONS, RATE_HZ, conditions, judged


def test_fewer_bits_are_further_away() -> None:
    if not shutil.which("opusenc"):
        pytest.skip("no opusenc here: install opus-tools")
    t = np.arange(2 * RATE_HZ) / RATE_HZ
    turns = (120 + 20 * np.sin(3 * t)) * t
    clean = sum(np.sin(2 * np.pi * k * turns) / k for k in range(1, 20)) * 0.1
    clean = (clean * np.clip(np.sin(4 * np.pi * t), 0, 1)).astype(np.float32)
    found = conditions(clean)
    far = [mel_distance_db(clean, found[name], RATE_HZ) for name in CONDITIONS[:4]]
    assert all(len(pcm) == len(clean) for pcm in found.values())
    assert far[0] == 0 < far[1] < far[3]


def test_a_wrong_order_is_said() -> None:
    clips = {f"c{i}": f"s{i % 6}" for i in range(24)}
    level = dict(zip(CONDITIONS, (4.6, 4.4, 3.8, 2.2, 2.5), strict=True))
    noise = np.random.default_rng(0).normal(0, 0.02, (len(CONDITIONS), len(clips)))
    scores = {
        name: {clip: {"pesq": level[name] + noise[i, j]} for j, clip in enumerate(clips)}
        for i, name in enumerate(CONDITIONS)
    }
    assert {step["said"] for step in judged(scores, clips)["steps"]} == {"right"}
    scores["opus 24k"], scores["opus 6k"] = scores["opus 6k"], scores["opus 24k"]
    found = judged(scores, clips)
    assert [step["said"] for step in found["steps"]] == ["right", "wrong", "wrong", "right"]
    assert any("opus 24k: pesq" in line for line in found["far_from_anchor"])
