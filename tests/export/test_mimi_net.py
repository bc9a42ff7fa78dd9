"""Our torch nets against two independent implementations, frame by frame, past the ring's wrap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the nets are torch modules")
from safetensors.torch import save_file  # noqa: E402

from export.checkpoint import read_checkpoint  # noqa: E402
from export.mimi import graph_spec, ring_shape  # noqa: E402
from export.mimi_config import MimiConfig  # noqa: E402
from export.mimi_net import MimiDecoder, MimiEncoder  # noqa: E402
from export.mimi_random import random_weights  # noqa: E402
from export.parity import TorchStream  # noqa: E402
from runtime.models.mimi_probe import probe_sound  # noqa: E402
from tests.export.mimi_hub import hub_model, hub_run  # noqa: E402
from tests.export.mimi_oracle import SMALL, official_mimi, official_table  # noqa: E402
from tests.export.mimi_oracle import published_state as published  # noqa: E402

N_FRAMES = 30  # SMALL's ring wraps after 10

VARIANTS = {
    "small": SMALL,
    "one position a frame": replace(SMALL, ratios=(32, 60), context=7),
    "three stages, odd context": replace(SMALL, ratios=(8, 12, 10), context=21, n_heads=4),
    "two residual layers": replace(SMALL, ratios=(40, 24), n_residual_layers=2, compress=1),
    "other kernels": replace(SMALL, kernel_size=5, residual_kernel_size=5, last_kernel_size=7),
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _streams(weights: Any, config: MimiConfig, n_codebooks: int) -> tuple[TorchStream, TorchStream]:
    encoder = MimiEncoder(weights, config, n_codebooks)
    decoder = MimiDecoder(weights, config, n_codebooks)
    ring = ring_shape(config)
    return (
        TorchStream(encoder, ring, graph_spec("encoder", encoder)),
        TorchStream(decoder, ring, graph_spec("decoder", decoder)),
    )


@pytest.mark.parametrize(
    ("variant", "n_codebooks"), [*((name, 6) for name in VARIANTS), ("small", 1), ("small", 2)]
)
def test_streams_equal_the_official_model(variant: str, n_codebooks: int, tmp_path: Path) -> None:
    pytest.importorskip("moshi", reason="the official package is the oracle")
    config = VARIANTS[variant]
    official = official_mimi(official_table(config), seed=1, n_codebooks=n_codebooks)
    save_file(published(official), tmp_path / "a.safetensors")
    weights = read_checkpoint(tmp_path / "a.safetensors", config)
    encoding, decoding = _streams(weights, config, n_codebooks)
    distinct = set()
    with torch.no_grad(), official.streaming(1):
        for pcm in probe_sound(N_FRAMES, seed=3):
            codes = official.encode(torch.from_numpy(pcm)[None, None])
            want = official.decode(codes)[0, 0].numpy()
            codes = codes[0, :, 0].numpy()
            np.testing.assert_array_equal(encoding.step("pcm", pcm), codes)
            assert np.abs(decoding.step("codes", codes) - want).max() <= 1e-5
            distinct.add(tuple(codes))
    assert len(distinct) > N_FRAMES // 2


def test_streams_equal_the_hub_model(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the second oracle")
    config = replace(SMALL, context=64)
    weights = random_weights(config, seed=4)
    model = hub_model(weights, config)
    save_file(model.state_dict(), tmp_path / "hub")
    frames = probe_sound(20, seed=5)  # within the ring
    codes, wave = hub_run(model, frames, n_codebooks=6)
    encoding, decoding = _streams(read_checkpoint(tmp_path / "hub", config), config, 6)
    for index, pcm in enumerate(frames):
        np.testing.assert_array_equal(encoding.step("pcm", pcm), codes[index])
        assert np.abs(decoding.step("codes", codes[index]) - wave[index]).max() <= 1e-5
    assert len({tuple(code) for code in codes}) > len(frames) // 2
