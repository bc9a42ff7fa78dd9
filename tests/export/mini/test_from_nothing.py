"""The whole recipe in minutes: sound, codec, model, artifact, and a conversation with it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("EDGE_SLOW") != "1", reason="takes minutes; EDGE_SLOW=1 runs it"
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
torch = pytest.importorskip("torch", reason="training is torch")

from edge.store import ModelStore  # noqa: E402
from export.mimi_config import MimiConfig  # noqa: E402
from export.mini import intents, workshop  # noqa: E402
from export.mini.bank import BankPlan, make_bank, open_bank, open_sound  # noqa: E402
from export.mini.codec_train import CodecRecipe, CodecTrainer, Crops  # noqa: E402
from export.mini.codec_use import open_codec  # noqa: E402
from export.mini.conversations import Maker  # noqa: E402
from export.mini.corpus import Ear, load_studio, make_shard, open_shards  # noqa: E402
from export.mini.decoder_train import (  # noqa: E402
    DecoderRecipe,
    DecoderTrainer,
    collect_pieces,
)
from export.mini.evaluate import through  # noqa: E402
from export.mini.lm_net import LmSizes  # noqa: E402
from export.mini.lm_train import LmRecipe, LmTrainer  # noqa: E402
from export.mini.package import CODEC_FOLDER, Parts, write_artifact  # noqa: E402
from export.mini.text_pieces import open_pieces, train_pieces  # noqa: E402
from runtime.engines.duplex import DuplexOptions, open_duplex  # noqa: E402

CODEC = CodecRecipe(
    sizes=MimiConfig(
        n_filters=4, dimension=32, n_heads=2, n_layers=1, feedforward=64, context=20,
        codebook_dim=16, n_codebooks=8, bins=64,
    ),
    n_crops=2,
)  # fmt: skip
DECODER = DecoderRecipe(n_crops=2, crop_frames=7, judge_from=4, other_clips=2)
LM = LmRecipe(
    sizes=LmSizes(dim=256, n_layers=2, hidden=256, card=64, text_card=300, depth_hidden=256),
    n_conversations=10, batch=5, n_frames=100, user_noise=0.0,
)  # fmt: skip


def _unheard(_done: object, _total: object = 0) -> None:
    """Progress that nobody watches."""


@pytest.mark.real
def test_ten_conversations_are_learnt_and_the_artifact_holds_them(
    starter_models: ModelStore, tmp_path: Path
) -> None:
    assert starter_models.files("hibari-heart")
    studio = load_studio()
    make_shard(tmp_path / "corpus", 0, 12, studio, Ear(), _unheard)
    crops = Crops(open_shards(tmp_path / "corpus"), CODEC)
    trainer = CodecTrainer(CODEC, crops, tmp_path / "codec.safetensors")
    trainer.train(40, _unheard)
    trainer.finish(20, tmp_path / "frozen.safetensors", _unheard)
    codec = open_codec(tmp_path / "frozen.safetensors", CODEC)

    some = [i for i in intents.core_intents() if i.key in ("hello", "capital-France")]
    plan = BankPlan(
        voices_per_ask=1, voices_per_control=1, held_out_voices_per_ask=1, n_noises=2,
        voices_per_practice=0, bends=((0.9, 0.95),),
    )  # fmt: skip
    make_bank(tmp_path / "bank", some, plan, studio, _unheard)
    asks = open_sound(tmp_path / "bank").of("ask", "train")
    assert len(asks) == 2 * sum(" x0.9" in u.speaker for u in asks)
    train_pieces(workshop.spoken_words(), 300, tmp_path / "tokenizer.model")
    pieces = open_pieces(tmp_path / "tokenizer.model")
    bank = open_bank(tmp_path / "bank", codec.name, codec.encode, _unheard)
    shards = open_shards(tmp_path / "corpus")
    pieces_of_sound = collect_pieces(codec, shards, bank, DECODER, tmp_path / "own.npy", _unheard)
    frozen, shipped = tmp_path / "frozen.safetensors", tmp_path / "shipped.safetensors"
    voice = DecoderTrainer(CODEC, DECODER, pieces_of_sound, tmp_path / "decoder", frozen)
    voice.train(8, _unheard)
    voice.finish(4, shipped, _unheard)
    asked = bank.of("ask")[0]
    sound = bank.sound_of(asked)
    assert np.array_equal(open_codec(shipped, CODEC).encode(sound), codec.encode(sound))
    maker = Maker(bank, pieces, codec.encode)
    learner = LmTrainer(LM, maker, tmp_path / "lm.safetensors")
    learner.train(120, _unheard)
    assert learner.state.curve[-1]["words"] > 0.9
    again = LmTrainer(LM, maker, tmp_path / "lm.safetensors")
    assert again.state.step == 120

    parts = Parts(shipped, tmp_path / "lm.safetensors", tmp_path / "tokenizer.model")
    made = write_artifact(parts, CODEC, replace(LM), tmp_path / "artifact")
    engine = open_duplex(made, threads=1, options=DuplexOptions(greedy=True))
    assert (made / CODEC_FOLDER).is_dir()
    # A codec trained for seconds has codes that lie almost equally near: a few of them turn over.
    equal = [
        through(engine.codec, pcm)[0] == codec.encode(pcm)
        for pcm in (bank.sound_of(u) for u in bank.of("ask")[:12])
    ]
    assert np.mean(np.concatenate(equal, 1)) > 0.9
