"""The multistream model in training is the official one, and forgets nothing between runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training is torch")

from export.mini.checkpoints import RunState, save_run  # noqa: E402
from export.mini.lm_net import LmNet, LmSizes, delayed, lm_shapes  # noqa: E402
from export.mini.lm_start import shared_pieces, start_from_run  # noqa: E402
from export.mini.lm_train import (  # noqa: E402
    Batch,
    Listener,
    LmRecipe,
    lm_losses,
    replies_right,
)
from export.mini.text_pieces import PADDING, open_pieces, train_pieces  # noqa: E402
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


def test_an_earlier_run_hands_over_what_both_tokenizers_know(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    said = ["see the sea", "see the tea", "at ease", "she eats", "the heat", "quite", "quiet, sea"]
    for name, sentences in (("old", said[:-2]), ("new", said)):
        train_pieces(sentences, SIZES.text_card - 6, tmp_path / name)
    old, new = open_pieces(tmp_path / "old"), open_pieces(tmp_path / "new")
    rows = shared_pieces(old, new)
    assert all(old.id_to_piece(b) == new.id_to_piece(a) for a, b in rows.items())
    fresh = set(range(new.vocab_size())) - set(rows)
    assert fresh
    recipe = LmRecipe(SIZES, seed=1)
    earlier, net = Listener(recipe), Listener(replace(recipe, seed=2))
    start = {name: value.detach().clone() for name, value in net.named_parameters()}
    save_run(tmp_path / "run", earlier, None, RunState(step=5, wall_s=9.0))
    assert start_from_run(net, recipe, tmp_path / "run", old, new).step == 5
    theirs = dict(earlier.named_parameters())
    for name, value in net.named_parameters():
        if not (name.startswith("ears") or "text_" in name):
            assert torch.equal(value, theirs[name]), name
    for name in ("lm.values.text_linear/weight", "ears.bias"):
        value = dict(net.named_parameters())[name]
        assert all(torch.equal(value[a], theirs[name][b]) for a, b in rows.items())
        assert all(torch.equal(value[row], start[name][row]) for row in fresh)


def test_a_reply_is_right_where_every_piece_of_it_is() -> None:
    net = Listener(LmRecipe(SIZES)).eval()
    tokens = _tokens(12)
    tokens[:, 0] = PADDING
    batch = Batch(tokens, torch.full((2, 12), -1), torch.ones(2, 12, dtype=torch.bool))
    assert replies_right(net, batch).tolist() == [True, True]
    columns = delayed(tokens, SIZES)
    with torch.no_grad():
        logits = net.lm(columns[:, :, :-1])[1]
    logits[:, :, [0, PADDING]] = -torch.inf
    # The first piece of both replies stands in frame 4: the likeliest one, and another.
    likeliest = logits[:, 4].argmax(-1)
    tokens[0, 0, 4] = likeliest[0]
    tokens[1, 0, 4] = 5 if likeliest[1] != 5 else 6
    assert replies_right(net, batch).tolist() == [True, False]


def test_committed_recipes_fit_together() -> None:
    codec, lm = codec_recipe(), lm_recipe()
    assert (CONFIGS / "lm.toml").is_file()
    assert lm.sizes.card == codec.sizes.bins
    assert lm.sizes.n_own == codec.sizes.n_codebooks
    for width in (lm.sizes.dim, lm.sizes.hidden, lm.sizes.depth_dim, lm.sizes.depth_hidden):
        assert width % 256 == 0
    parameters = sum(torch.Size(shape).numel() for shape in lm_shapes(lm.sizes).values())
    assert 6e6 < parameters < 12e6
