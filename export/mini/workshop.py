"""Where the miniature is made: the folder in the user's cache, what lies in it, and each stage.

Every stage can be called again: sound that is there is not made again, training goes on from its
checkpoint, and a finished copy never replaces the run that can go on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import ModelMissingError, UsageError
from edge.paths import cache_dir, make_dir
from export.mini import intents
from export.mini.bank import BankPlan, make_bank, open_bank, open_sound

if TYPE_CHECKING:
    from export.mini.codec_train import CodecRecipe, CodecTrainer
    from export.mini.codec_use import TrainedCodec
    from export.mini.conversations import Maker
    from export.mini.decoder_train import DecoderTrainer
    from export.mini.lm_train import LmRecipe, LmTrainer

Progress = Callable[[int, int], None]

CONFIGS = Path(__file__).parent / "configs"
STAGES = {
    "core": intents.core_intents,
    "home": intents.home_intents,
    "all": intents.all_intents,
}
N_PIECES = 512


@dataclass(frozen=True, slots=True)
class Workshop:
    """The folder and its names. codec_run, lm_run: what training goes on from.

    proof: "" for the runs that are shipped; otherwise part of the names of runs of their own.
    """

    folder: Path
    proof: str = ""

    @property
    def corpus(self) -> Path:
        return self.folder / "corpus"

    @property
    def codec_run(self) -> Path:
        return self.folder / f"codec{self.proof}.safetensors"

    @property
    def codec_frozen(self) -> Path:
        """Finished: its codes are what the multistream model learns."""
        return self.folder / "codec-frozen.safetensors"

    @property
    def decoder_run(self) -> Path:
        """The frozen codec, its decoder being trained further."""
        return self.folder / "codec-decoder.safetensors"

    @property
    def codec_shipped(self) -> Path:
        """The frozen codec with its decoder trained further, finished."""
        return self.folder / "codec-shipped.safetensors"

    @property
    def codec_best(self) -> Path:
        """What is packed: with the better decoder where there is one."""
        return self.codec_shipped if self.codec_shipped.is_file() else self.codec_frozen

    @property
    def pieces(self) -> Path:
        return self.folder / "tokenizer.model"

    def bank(self, stage: str) -> Path:
        return self.folder / f"bank-{stage}"

    def lm_run(self, stage: str) -> Path:
        return self.folder / f"lm-{stage}{self.proof}.safetensors"

    def lm_finished(self, stage: str) -> Path:
        return self.folder / f"lm-{stage}-finished.safetensors"


def open_workshop(folder: Path | None = None) -> Workshop:
    """The given folder, or `mini` in the user's cache, made where it is missing."""
    return Workshop(make_dir(folder or cache_dir() / "mini"))


def stage_intents(stage: str) -> tuple[intents.Intent, ...]:
    """The intents of a stage. Raises UsageError."""
    if stage not in STAGES:
        raise UsageError(f"no stage {stage!r}; there are {', '.join(STAGES)}")
    return STAGES[stage]()


def make_data(
    shop: Workshop, stage: str, n_shards: int, clips: int, progress: Callable[[str], Progress]
) -> None:
    """Make what is missing of the codec's corpus, the bank of a stage and the tokenizer."""
    from export.mini.corpus import Ear, load_studio, make_shard
    from export.mini.text_pieces import train_pieces

    studio, ear = load_studio(), Ear()
    for number in range(n_shards):
        make_shard(shop.corpus, number, clips, studio, ear, progress(f"corpus {number}"))
    make_bank(shop.bank(stage), stage_intents(stage), BankPlan(), studio, progress("bank"))
    if not shop.pieces.is_file():
        train_pieces(spoken_words(), N_PIECES, shop.pieces)


def spoken_words() -> list[str]:
    """Every sentence of the little world: the tokenizer's training text."""
    everything = intents.all_intents()
    asks = [ask for intent in everything for ask in intent.every]
    replies = [intent.reply for intent in everything] * 5
    controls = [ask for control in intents.CONTROLS for ask in control.asks]
    recalls = [intents.recalled(intent) for intent in intents.core_intents()]
    return [*asks, *replies, *recalls, *controls, *intents.BACK_CHANNELS]


def one_thread() -> None:
    """Torch takes as many threads as OMP_NUM_THREADS says, one where it is not set."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


def codec_recipe() -> CodecRecipe:
    """The committed one."""
    from export.mini.codec_train import read_codec_recipe

    return read_codec_recipe(CONFIGS / "codec.toml")


def lm_recipe() -> LmRecipe:
    """The committed one."""
    from export.mini.lm_train import read_lm_recipe

    return read_lm_recipe(CONFIGS / "lm.toml")


def codec_trainer(shop: Workshop, recipe: CodecRecipe, device: str) -> CodecTrainer:
    """A trainer that stands where its run left off."""
    from export.mini.codec_train import CodecTrainer, Crops
    from export.mini.corpus import open_shards

    crops = Crops(open_shards(shop.corpus), recipe)
    return CodecTrainer(recipe, crops, shop.codec_run, device)


def decoder_trainer(shop: Workshop, stage: str, device: str, progress: Progress) -> DecoderTrainer:
    """A trainer of the finished codec's decoder that stands where its run left off."""
    from export.mini.corpus import open_shards
    from export.mini.decoder_train import DecoderRecipe, DecoderTrainer, collect_pieces

    codec, recipe = frozen_codec(shop, device), DecoderRecipe()
    bank = open_sound(shop.bank(stage))
    kept = shop.folder / f"decoder-codes-{stage}-{codec.name}.npy"
    pieces = collect_pieces(codec, open_shards(shop.corpus), bank, recipe, kept, progress)
    return DecoderTrainer(
        codec_recipe(), recipe, pieces, shop.decoder_run, shop.codec_frozen, device
    )


def frozen_codec(shop: Workshop, device: str = "cpu") -> TrainedCodec:
    """The codec whose codes the multistream model learns. Raises ModelMissingError."""
    from export.mini.codec_use import open_codec

    if not shop.codec_frozen.is_file():
        raise ModelMissingError(
            f"{shop.codec_frozen}: no finished codec yet; make it with: edge mini codec --finish"
        )
    return open_codec(shop.codec_frozen, codec_recipe(), device)


def conversation_maker(shop: Workshop, stage: str, device: str, progress: Progress) -> Maker:
    """Conversations of a stage in the frozen codec's codes."""
    from export.mini.conversations import Maker
    from export.mini.text_pieces import open_pieces

    codec = frozen_codec(shop, device)
    bank = open_bank(shop.bank(stage), codec.name, codec.encode, progress)
    return Maker(bank, open_pieces(shop.pieces), codec.encode)


@dataclass(frozen=True, slots=True)
class Earlier:
    """A run of the multistream model to start a new one from, and its tokenizer."""

    run: Path
    pieces: Path


def lm_trainer(
    shop: Workshop,
    recipe: LmRecipe,
    device: str,
    progress: Progress,
    earlier: Earlier | None = None,
) -> LmTrainer:
    """A trainer that stands where the stage's run left off.

    A new run starts from the codebooks, or from an earlier one. Raises UsageError where one is
    given though the stage's run has begun.
    """
    import torch

    from export.mini.lm_start import start_from_codebooks, start_from_run
    from export.mini.lm_train import LmTrainer
    from export.mini.text_pieces import open_pieces

    maker = conversation_maker(shop, recipe.stage, device, progress)
    trainer = LmTrainer(recipe, maker, shop.lm_run(recipe.stage), device)
    if earlier is not None:
        if trainer.state.step:
            raise UsageError(f"{shop.lm_run(recipe.stage)}: has begun; move it away to use --from")
        old, new = open_pieces(earlier.pieces), open_pieces(shop.pieces)
        state = start_from_run(trainer.net, recipe, earlier.run, old, new)
        trainer.state.before, trainer.state.wall_s = state.before + state.step, state.wall_s
    elif trainer.state.step == 0:
        quantizer = frozen_codec(shop).net.quantizer
        levels = range(recipe.sizes.n_own)
        tables = torch.stack([quantizer.entries(level) for level in levels])
        start_from_codebooks(trainer.net.lm, tables, recipe.seed)
    return trainer
