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

from edge.frame import FRAME_SAMPLES  # noqa: E402
from export.checkpoint import read_checkpoint  # noqa: E402
from export.mimi import graph_spec, ring_shape  # noqa: E402
from export.mimi_config import MimiConfig  # noqa: E402
from export.mimi_net import MimiDecoder, MimiEncoder  # noqa: E402
from export.parity import TorchStream  # noqa: E402
from runtime.models.mimi_probe import probe_sound  # noqa: E402
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
    transformers = pytest.importorskip("transformers", reason="the second oracle")
    config = replace(SMALL, context=64)
    torch.manual_seed(4)
    model = transformers.MimiModel(_hub_config(transformers, config)).eval()
    n_frames = 20  # within the ring: the hub's model is run on the whole sound at once
    pcm = probe_sound(n_frames, seed=5)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("embed_sum"):
                tensor.normal_(0, 0.3)
            elif name.endswith("scale"):
                tensor.uniform_(0.1, 0.3)
        model.encoder(torch.from_numpy(pcm.reshape(1, 1, -1)))
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "hub")
        whole = torch.from_numpy(pcm.reshape(1, 1, -1))
        want_codes = model.encode(whole, num_quantizers=6).audio_codes
        want = model.decode(want_codes).audio_values[0, 0].numpy()
    encoding, decoding = _streams(read_checkpoint(tmp_path / "hub", config), config, 6)
    heard = []
    for index, frame in enumerate(pcm):
        codes = want_codes[0, :, index].numpy()
        np.testing.assert_array_equal(encoding.step("pcm", frame), codes)
        heard.append(decoding.step("codes", codes))
    assert np.abs(np.concatenate(heard) - want[: n_frames * FRAME_SAMPLES]).max() <= 1e-5


def _hub_config(transformers: Any, config: MimiConfig) -> Any:
    return transformers.MimiConfig(
        num_filters=config.n_filters,
        hidden_size=config.dimension,
        num_hidden_layers=config.n_layers,
        num_attention_heads=config.n_heads,
        num_key_value_heads=config.n_heads,
        head_dim=config.head_dim,
        intermediate_size=config.feedforward,
        sliding_window=config.context,
        codebook_dim=config.codebook_dim,
        vector_quantization_hidden_dimension=config.codebook_dim,
        codebook_size=config.bins,
        num_quantizers=config.n_codebooks,
        upsample_groups=config.dimension,
        upsampling_ratios=list(config.ratios),
    )
