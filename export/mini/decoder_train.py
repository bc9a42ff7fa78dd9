"""The decoder alone, after the codes are settled: the assistant's voice, over and over.

Encoder and codebooks stay what they are, so clips are encoded once and crops are drawn as codes
with their sound. What is learnt is spectra and the envelopes that make words understood; a judge of
spectra can join in, but has not paid so far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.atomic import atomic_path
from edge.frame import FRAME_SAMPLES
from export.mini import voices
from export.mini.bank import Bank, as_float
from export.mini.checkpoints import RunState, hardware_text, load_run
from export.mini.codec_train import CodecRecipe, Trainee
from export.mini.codec_use import TrainedCodec
from export.mini.corpus import Shard
from export.mini.judges import SpectralJudge, judged_apart, pleased
from export.mini.losses import EnvelopeLoss, SpectralLoss
from export.mini.trainer import Trainer

Progress = Callable[[int, int], None]

_TRAINED = ("decoder/", "decoder_transformer/", "upsample/")


@dataclass(frozen=True, slots=True)
class DecoderRecipe:
    """How the decoder is trained further.

    lead_frames: before each crop, decoded for their history and not compared. judge_from: the
    step from which the judge takes part; every judge_every-th step it learns itself. reply_share,
    other_share: of crops from the assistant's fixed replies, and of other voices.
    """

    seed: int = 11
    n_crops: int = 3
    crop_frames: int = 12
    lead_frames: int = 2
    learning_rate: float = 1e-3
    warm_up_steps: int = 50
    mel_weight: float = 3.0
    linear_weight: float = 1.0
    hinge_weight: float = 0.1
    match_weight: float = 1.0
    envelope_weight: float = 4.0
    judge_from: int = 1_000_000
    judge_every: int = 2
    reply_share: float = 0.25
    other_share: float = 0.25
    other_clips: int = 500
    save_every: int = 100


@dataclass(frozen=True, slots=True)
class Piece:
    """A clip as its own stream: codes (8, frames) and sound int16 (frames * 1920,)."""

    kind: str
    codes: NDArray[np.int16]
    audio: NDArray[np.int16]


def collect_pieces(
    codec: TrainedCodec,
    shards: Sequence[Shard],
    bank: Bank,
    recipe: DecoderRecipe,
    kept: Path,
    progress: Progress,
) -> list[Piece]:
    """Clips of the assistant, some of others and all its replies, encoded; codes are kept."""
    clips: list[tuple[str, NDArray[np.int16]]] = []
    n_others = 0
    for shard in shards:
        for clip in shard.clips:
            own = clip.speaker == voices.ASSISTANT
            n_others += not own
            if own or n_others <= recipe.other_clips:
                start = clip.first_frame * FRAME_SAMPLES
                audio = shard.audio[start : start + clip.n_frames * FRAME_SAMPLES]
                clips.append(("own" if own else "other", audio))
    said = (*bank.of("reply"), *bank.of("recall"))
    clips += [("reply", bank.audio_of(u)) for u in said]
    if not kept.is_file():
        rows = []
        for done, (_, audio) in enumerate(clips):
            pcm = as_float(audio)
            rows.append(codec.encode(pcm).astype(np.int16))
            progress(done + 1, len(clips))
        with atomic_path(kept) as part, part.open("wb") as file:
            np.save(file, np.concatenate(rows, 1))
    codes, pieces, first = np.load(kept), [], 0
    for kind, audio in clips:
        n_frames = len(audio) // FRAME_SAMPLES
        pieces.append(Piece(kind, codes[:, first : first + n_frames], audio))
        first += n_frames
    return pieces


class DecoderTrainer(Trainer):
    """One run, in memory; `path` is where it is kept, `frozen` where the codec comes from."""

    def __init__(
        self,
        codec: CodecRecipe,
        recipe: DecoderRecipe,
        pieces: Sequence[Piece],
        path: Path,
        frozen: Path,
        device: str = "cpu",
    ) -> None:
        self.recipe, self.device = recipe, device
        self._groups = _groups(pieces, recipe)
        self.net, self.loss = Trainee(codec), SpectralLoss().to(device)
        self.envelopes = EnvelopeLoss().to(device)
        settled = load_run(frozen, self.net)
        self.judge = SpectralJudge(recipe.seed)
        self.both = nn.ModuleDict({"codec": self.net, "judge": self.judge}).to(device)
        for parameter in self.net.parameters():
            parameter.requires_grad_(False)
        learns = [v for k, v in self.net.codec.values.items() if k.startswith(_TRAINED)]
        for parameter in learns:
            parameter.requires_grad_(True)
        optimizer = torch.optim.AdamW(
            [{"params": learns}, {"params": list(self.judge.parameters())}],
            recipe.learning_rate, betas=(0.8, 0.99), weight_decay=1e-3, fused=True,
        )  # fmt: skip
        self._learns = learns
        if path.is_file():
            state = load_run(path, self.both, optimizer)
        else:
            state = RunState(phase="decoder", hardware=hardware_text(device))
            state.wall_s = settled.wall_s
        super().__init__(recipe, path, self.both, self.net, optimizer, state)

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Codes (crops, 8, lead + crop frames) and sound (crops, crop samples), by the step."""
        recipe, rng = self.recipe, np.random.default_rng((self.recipe.seed, step))
        codes, pcm = [], []
        n_frames = recipe.lead_frames + recipe.crop_frames
        for _ in range(recipe.n_crops):
            kind = rng.choice(list(self._groups), p=self._shares())
            group = self._groups[str(kind)]
            piece = group[int(rng.integers(len(group)))]
            first = int(rng.integers(piece.codes.shape[1] - n_frames + 1))
            codes.append(piece.codes[:, first : first + n_frames].astype(np.int64))
            start = (first + recipe.lead_frames) * FRAME_SAMPLES
            sound = piece.audio[start : (first + n_frames) * FRAME_SAMPLES]
            pcm.append(as_float(sound))
        return torch.from_numpy(np.stack(codes)), torch.from_numpy(np.stack(pcm))

    def _shares(self) -> list[float]:
        recipe = self.recipe
        shares = {"reply": recipe.reply_share, "other": recipe.other_share,
                  "own": 1 - recipe.reply_share - recipe.other_share}  # fmt: skip
        known = [shares[kind] for kind in self._groups]
        return [share / sum(known) for share in known]

    def _learn(self) -> dict[str, Tensor]:
        recipe, codec = self.recipe, self.net.codec.eval()
        codes, pcm = (x.to(self.device) for x in self.draw(self.state.step))
        made = codec.decode(codec.quantizer.decode(codes))
        made = made[:, recipe.lead_frames * FRAME_SAMPLES :]
        mel, linear = self.loss(made, pcm)
        envelope = self.envelopes(made, pcm)
        losses = {"mel": mel, "linear": linear, "envelope": envelope}
        total = recipe.mel_weight * mel + recipe.linear_weight * linear
        total = total + recipe.envelope_weight * envelope
        self.optimizer.zero_grad(set_to_none=True)
        if self.state.step >= recipe.judge_from:
            losses |= self._judge(made, pcm)
            total = total + recipe.hinge_weight * losses["hinge"]
            total = total + recipe.match_weight * losses["match"]
        torch.autograd.backward(total)
        nn.utils.clip_grad_norm_(self._learns, 20.0)
        self.optimizer.step()
        return losses

    def _judge(self, made: Tensor, pcm: Tensor) -> dict[str, Tensor]:
        """Losses of the judge's part; at every judge_every-th step the judge learns as well."""
        losses = {}
        if self.state.step % self.recipe.judge_every == 0:
            self.judge.requires_grad_(True)
            apart = judged_apart(self.judge(pcm), self.judge(made.detach()))
            torch.autograd.backward(apart)
            losses["judge"] = apart
        self.judge.requires_grad_(False)
        with torch.no_grad():
            real = self.judge(pcm)
        losses["hinge"], losses["match"] = pleased(real, self.judge(made))
        return losses


def _groups(pieces: Sequence[Piece], recipe: DecoderRecipe) -> dict[str, list[Piece]]:
    """Pieces long enough for a crop, by kind."""
    n_frames = recipe.lead_frames + recipe.crop_frames
    groups: dict[str, list[Piece]] = {}
    for piece in pieces:
        if piece.codes.shape[1] >= n_frames:
            groups.setdefault(piece.kind, []).append(piece)
    return groups
