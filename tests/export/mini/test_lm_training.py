"""The multistream model in training is the official one, and forgets nothing between runs."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training is torch")

from export.mini.lm_net import LmNet, LmSizes, delayed, lm_shapes  # noqa: E402
from export.mini.lm_train import Batch, Listener, LmRecipe, lm_losses  # noqa: E402
from export.mini.workshop import CONFIGS, codec_recipe, lm_recipe  # noqa: E402
from export.moshi_checkpoint import expected_shapes  # noqa: E402
from export.moshi_config import parse_config  # noqa: E402

SIZES = LmSizes(
    dim=32, n_heads=2, n_layers=2, hidden=48, context=20, card=16, text_card=24,
    depth_dim=16, depth_heads=2, depth_layers=2, depth_hidden=24,
    schedule=(0, 1, 2, 2, 3, 3, 3, 3),
)  # fmt: skip


def _tokens(n_frames: int, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, SIZES.card, (batch, 17, n_frames), generator=generator)
    codes[:, 0] = torch.randint(0, SIZES.text_card, (batch, n_frames), generator=generator)
    return codes


def test_its_names_and_shapes_are_the_official_ones() -> None:
    config = parse_config(SIZES.official_config())
    wanted = dict(expected_shapes(config))
    made = lm_shapes(SIZES)
    assert set(made) == set(wanted)
    for name, shape in wanted.items():
        pairs = zip(shape, made[name], strict=True)
        assert all(size in (None, got) for size, got in pairs), name


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_official_package_computes_the_same(tmp_path: Path) -> None:
    pytest.importorskip("moshi", reason="pip install --no-deps moshi einops sphn")
    from tests.moshi_oracle import official_model

    net, tokens = LmNet(SIZES, seed=3), _tokens(12)
    weights = {name: value.numpy() for name, value in net.official_weights().items()}
    official = official_model(tmp_path, SIZES.official_config(), weights)
    with torch.no_grad():
        wanted = official(tokens)
        columns = delayed(tokens, SIZES)
        hidden, text = net(columns[:, :, :-1])
        own = columns[:, 1 : 1 + SIZES.n_own, 1:].transpose(1, 2).flatten(0, 1)
        codes = net.depth(hidden.flatten(0, 1), columns[:, 0, 1:].flatten(), own)
    assert torch.allclose(text, wanted.text_logits[:, 0], atol=1e-4)
    codes = codes.reshape(2, 12, *codes.shape[1:])
    # Codebook 1 is not delayed; the others stand one frame later.
    assert torch.allclose(codes[:, :, 0], wanted.logits[:, 0], atol=1e-4)
    assert torch.allclose(codes[:, 1:, 3], wanted.logits[:, 3, :-1], atol=1e-4)


def test_delays_put_acoustic_codes_a_frame_later() -> None:
    tokens = _tokens(6)
    columns = delayed(tokens, SIZES)
    assert columns.shape == (2, 17, 7)
    assert torch.equal(columns[:, 1, 1:], tokens[:, 1])
    assert torch.equal(columns[:, 2, 2:], tokens[:, 2, :-1])
    assert bool((columns[:, 2, :2] == SIZES.card).all())
    assert bool((columns[:, 0, 0] == SIZES.text_card).all())


def test_a_few_steps_learn_one_batch() -> None:
    recipe = LmRecipe(SIZES, depth_frames=16, user_noise=0.0)
    torch.manual_seed(0)
    net = Listener(recipe)
    batch = Batch(_tokens(12), torch.full((2, 12), -1), torch.ones(2, 12, dtype=torch.bool))
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    seen = []
    for step in range(25):
        losses = lm_losses(net, batch, recipe, step)
        optimizer.zero_grad()
        torch.autograd.backward(losses["text"] + losses["codes"])
        optimizer.step()
        seen.append(float(losses["text"].detach() + losses["codes"].detach()))
    assert seen[-1] < 0.6 * seen[0]


def test_committed_recipes_fit_together() -> None:
    codec, lm = codec_recipe(), lm_recipe()
    assert (CONFIGS / "lm.toml").is_file()
    assert lm.sizes.card == codec.sizes.bins
    assert lm.sizes.n_own == codec.sizes.n_codebooks
    for width in (lm.sizes.dim, lm.sizes.hidden, lm.sizes.depth_dim, lm.sizes.depth_hidden):
        assert width % 256 == 0
    parameters = sum(torch.Size(shape).numel() for shape in lm_shapes(lm.sizes).values())
    assert 6e6 < parameters < 12e6
