"""The codec in training computes what the official one computes; its parts hold their laws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training is torch")

from edge.frame import FRAME_SAMPLES  # noqa: E402
from export.checkpoint import check_weights, weight_shapes  # noqa: E402
from export.mimi_config import MimiConfig, parse_config  # noqa: E402
from export.mini.checkpoints import RunState, load_run, save_run  # noqa: E402
from export.mini.codec_net import CodecNet  # noqa: E402
from export.mini.codec_use import official_codec_config  # noqa: E402
from export.mini.losses import SpectralLoss, mel_bands  # noqa: E402
from export.mini.quantizer import k_means, nearest  # noqa: E402

SIZES = MimiConfig(
    n_filters=4, dimension=32, n_heads=2, n_layers=1, feedforward=64, context=50,
    codebook_dim=8, n_codebooks=4, bins=32,
)  # fmt: skip


def _sound(n_frames: int, batch: int = 2) -> torch.Tensor:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((batch, n_frames * FRAME_SAMPLES)).astype(np.float32)
    return torch.from_numpy(0.1 * noise)


def test_official_weights_fit_the_official_layout() -> None:
    net = CodecNet(SIZES, seed=1)
    check_weights(net.official_weights(), weight_shapes(SIZES), "trained")


def test_the_official_package_computes_the_same() -> None:
    pytest.importorskip("moshi", reason="the official package is the oracle")
    from tests.export.mimi_oracle import official_mimi, official_table

    net, pcm = CodecNet(SIZES, seed=1).eval(), _sound(6, batch=1)
    net.fit_scales(pcm)
    official = official_mimi(official_table(SIZES), seed=0, n_codebooks=SIZES.n_codebooks)
    official.load_state_dict(net.official_weights())
    for table in (m for m in official.modules() if hasattr(m, "_embedding")):
        table._embedding = None
    with torch.no_grad():
        codes = net.quantizer(net.encode(pcm), quantize=True).codes
        made = net.decode(net.quantizer.decode(codes))
        wanted = official.encode(pcm[:, None])
        sound = official.decode(codes)[:, 0]
    assert torch.equal(codes, wanted)
    assert torch.allclose(made, sound, atol=1e-5)


def test_official_config_describes_the_same_sizes() -> None:
    assert parse_config(official_codec_config(SIZES), "made") == SIZES


def test_fitted_scales_keep_the_signal_alive() -> None:
    net, pcm = CodecNet(SIZES, seed=1), _sound(8, batch=8)
    net.fit_scales(pcm)
    with torch.no_grad():
        latent = net.encode(pcm)
        out, _ = net(pcm, quantize=False)
    assert float(latent.std(2).square().mean().sqrt()) > 0.3
    assert float(out.std()) == pytest.approx(float(pcm.std()), rel=0.5)


def test_quantized_gradients_reach_the_encoder() -> None:
    net, pcm = CodecNet(SIZES, seed=1), _sound(4)
    net.fit_scales(pcm)
    out, _ = net(pcm, quantize=True)
    mel, linear = SpectralLoss()(out, pcm)
    (mel + linear).backward()
    gradient = net.values["encoder/model/0/conv/conv/weight"].grad
    assert gradient is not None
    assert float(gradient.abs().max()) > 0


def test_equal_sounds_have_no_loss() -> None:
    pcm = _sound(4)
    mel, linear = SpectralLoss()(pcm, pcm)
    assert float(mel) == 0.0
    assert float(linear) == 0.0


def test_mel_bands_each_weigh_one() -> None:
    bands = mel_bands(128, 16)
    assert torch.allclose(bands.sum(1), torch.ones(16))


def test_k_means_finds_separate_heaps() -> None:
    torch.manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    rows = centres.repeat(200, 1) + 0.1 * torch.randn(600, 2)
    table, counts = k_means(rows, 3, 20)
    assert int(counts.sum()) == 600
    error = (rows - table[nearest(rows, table)]).norm(dim=1).mean()
    assert float(error) < 6.0


def test_a_run_goes_on_where_it_was_saved(tmp_path: Path) -> None:
    def one_step(net: CodecNet, optimizer: torch.optim.Optimizer) -> float:
        out, _ = net(_sound(2), quantize=False)
        optimizer.zero_grad()
        loss = out.square().mean()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    def fresh() -> tuple[CodecNet, torch.optim.Optimizer]:
        net = CodecNet(SIZES, seed=2)
        return net, torch.optim.AdamW(net.parameters(), 1e-3)

    net, optimizer = fresh()
    one_step(net, optimizer)
    save_run(tmp_path / "run.safetensors", net, optimizer, RunState(step=1, curve=[{"a": 1.0}]))
    went_on = [one_step(net, optimizer) for _ in range(3)]
    other, its_optimizer = fresh()
    state = load_run(tmp_path / "run.safetensors", other, its_optimizer)
    assert (state.step, state.curve) == (1, [{"a": 1.0}])
    assert [one_step(other, its_optimizer) for _ in range(3)] == went_on
