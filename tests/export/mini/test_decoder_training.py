"""The decoder learns on alone: codes stay what they are, the judge joins in, a run goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training is torch")

from edge.frame import FRAME_SAMPLES  # noqa: E402
from export.mimi_config import MimiConfig  # noqa: E402
from export.mini.checkpoints import RunState, save_run  # noqa: E402
from export.mini.codec_train import CodecRecipe, Trainee  # noqa: E402
from export.mini.codec_use import TrainedCodec  # noqa: E402
from export.mini.decoder_train import DecoderRecipe, DecoderTrainer, Piece  # noqa: E402
from export.mini.judges import SpectralJudge, judged_apart, pleased  # noqa: E402
from export.mini.losses import EnvelopeLoss  # noqa: E402
from export.mini.metrics import estoi  # noqa: E402
from export.mini.quantizer import Quantizer  # noqa: E402

SIZES = MimiConfig(
    n_filters=4, dimension=32, n_heads=2, n_layers=1, feedforward=64, context=20,
    codebook_dim=8, n_codebooks=4, bins=32,
)  # fmt: skip
CODEC = CodecRecipe(sizes=SIZES)
RECIPE = DecoderRecipe(n_crops=2, crop_frames=7, lead_frames=1, judge_from=4, warm_up_steps=1)


def _piece(codec: TrainedCodec, kind: str) -> Piece:
    rng = np.random.default_rng(len(kind))
    pcm = (0.1 * rng.standard_normal(10 * FRAME_SAMPLES)).astype(np.float32)
    return Piece(kind, codec.encode(pcm).astype(np.int16), (pcm * 32767).astype(np.int16))


@pytest.fixture
def trainer(tmp_path: Path) -> DecoderTrainer:
    start = Trainee(CODEC)
    start.codec.fit_scales(0.1 * torch.randn(4, 4 * FRAME_SAMPLES))
    save_run(tmp_path / "frozen.safetensors", start, None, RunState(phase="finished"))
    codec = TrainedCodec(start.codec, "tiny")
    pieces = [_piece(codec, kind) for kind in ("own", "reply", "other")]
    return DecoderTrainer(
        CODEC, RECIPE, pieces, tmp_path / "run.safetensors", tmp_path / "frozen.safetensors"
    )


def _silent(_row: dict[str, float]) -> None:
    """A report that nobody reads."""


def test_only_what_decodes_changes_and_the_codes_stay(trainer: DecoderTrainer) -> None:
    before = {k: v.detach().clone() for k, v in trainer.net.codec.state_dict().items()}
    trainer.train(6, _silent)
    after = trainer.net.codec.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    starts = ("values.decoder/", "values.decoder_transformer/", "values.upsample/")
    assert all(name.startswith(starts) for name in changed)


def test_the_decoder_comes_nearer_to_the_sound(trainer: DecoderTrainer) -> None:
    rows: list[dict[str, float]] = []
    trainer.recipe = replace(RECIPE, judge_from=1000)
    trainer.train(40, rows.append)
    assert rows[-1]["mel"] < rows[0]["mel"]


def test_a_run_goes_on_with_its_judge(trainer: DecoderTrainer) -> None:
    trainer.train(6, _silent)
    other = DecoderTrainer(
        CODEC, RECIPE, [p for g in trainer._groups.values() for p in g], trainer.path,
        trainer.path.with_name("frozen.safetensors"),
    )  # fmt: skip
    assert other.state.step == 6
    ours, theirs = trainer.judge.state_dict(), other.judge.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_crops_come_from_their_step(trainer: DecoderTrainer) -> None:
    one, two, other = trainer.draw(3), trainer.draw(3), trainer.draw(4)
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    assert not torch.equal(one[1], other[1])
    assert one[0].shape == (2, 4, 8)
    assert one[1].shape == (2, 7 * FRAME_SAMPLES)


def test_a_judge_learns_to_tell_tones_from_noise() -> None:
    torch.manual_seed(0)
    judge = SpectralJudge(1)
    optimizer = torch.optim.Adam(judge.parameters(), 3e-3)
    t = torch.arange(2 * FRAME_SAMPLES) / 24_000
    tones = 0.1 * torch.sin(2 * np.pi * 300 * t).expand(4, -1)
    losses = []
    for _ in range(25):
        noise = 0.1 * torch.randn(4, len(t))
        loss = judged_apart(judge(tones), judge(noise))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    hinge, match = pleased(judge(tones), judge(tones))
    assert float(match.detach()) == 0.0
    assert float(hinge.detach()) < 0


def test_every_level_of_codes_comes_nearer_to_the_latent() -> None:
    quantizer = Quantizer(SIZES, torch.Generator().manual_seed(1))
    rows = torch.randn(2, 32, 200)
    quantizer.start(rows.transpose(0, 1).reshape(1, 32, -1))
    with torch.no_grad():
        wanted = quantizer(rows, quantize=False).latent
        codes = quantizer(rows, quantize=True).codes
        apart = []
        for level in range(2, SIZES.n_codebooks + 1):
            narrow = sum(
                quantizer.entries(k)[codes[:, k]] for k in quantizer.levels(1)[: level - 1]
            )
            semantic = quantizer.entries(0)[codes[:, 0]]
            made = narrow @ quantizer.outward[1].T + semantic @ quantizer.outward[0].T
            apart.append(float((made.transpose(1, 2) - wanted).square().mean()))
    assert apart == sorted(apart, reverse=True)


def test_envelopes_are_alike_as_far_as_words_are_understood() -> None:
    rng = np.random.default_rng(0)
    t = np.arange(2 * 24_000) / 24_000
    voice = np.sin(2 * np.pi * 180 * t + 9 * np.sin(2 * np.pi * 3 * t)) * (1 + np.sin(19 * t))
    voice += 0.3 * rng.standard_normal(len(t)) * (np.sin(11 * t) > 0)
    pcm, loss = (0.05 * voice).astype(np.float32), EnvelopeLoss()
    plain = torch.from_numpy(pcm)[None]
    assert float(loss(plain, plain)) == pytest.approx(0, abs=1e-4)
    found = []
    for level in (0.003, 0.03, 0.1):
        other = (pcm + level * rng.standard_normal(len(pcm))).astype(np.float32)
        found.append(1 - float(loss(torch.from_numpy(other)[None], plain)))
        assert found[-1] == pytest.approx(estoi(pcm, other), abs=0.12)
    assert found == sorted(found, reverse=True)
