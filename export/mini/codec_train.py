"""Training of the miniature codec: crops of the corpus, spectra, and a teacher for codebook 1.

A run has no codebooks while it goes on: latents pass as they are. `finish` works on a copy, so
that the run can go on later: the rate falls to nothing, three quarters of the way all codebooks
are fitted to what the encoder then gives, and from there only the decoder learns. Codebooks that
followed an encoder still at a high rate collapsed twice, and one fit at the end costs nothing.
decoder_train goes on from there.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edge.frame import FRAME_SAMPLES
from export.mimi_config import MimiConfig
from export.mini import voices
from export.mini.checkpoints import RunState, hardware_text, load_run
from export.mini.codec_net import CodecNet
from export.mini.corpus import Shard
from export.mini.losses import SpectralLoss
from export.mini.quantizer import Quantized
from export.mini.trainer import Trainer

_HEARD_WIDTH = 384
_FIT_BATCHES = 160  # of 16 crops, that codebooks are fitted to


@dataclass(frozen=True, slots=True)
class CodecRecipe:
    """How the codec is trained."""

    sizes: MimiConfig
    seed: int = 7
    n_crops: int = 4
    crop_frames: int = 8
    learning_rate: float = 2e-3
    warm_up_steps: int = 100
    assistant_share: float = 0.5
    mel_weight: float = 3.0
    linear_weight: float = 1.0
    content_weight: float = 1.0
    save_every: int = 50


def read_codec_recipe(path: Path) -> CodecRecipe:
    """The committed recipe: a table [sizes] of the codec and a table [training]."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    sizes: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in table["sizes"].items()
    }
    return CodecRecipe(sizes=MimiConfig(**sizes), **table["training"])


class Crops:
    """Draws training crops; equal seeds and steps give equal crops."""

    def __init__(self, shards: Sequence[Shard], recipe: CodecRecipe) -> None:
        self.recipe = recipe
        self._shards = shards
        own: list[tuple[int, int, int]] = []
        others: list[tuple[int, int, int]] = []
        for number, shard in enumerate(shards):
            for clip in shard.clips:
                if clip.n_frames > recipe.crop_frames + 2:
                    group = own if clip.speaker == voices.ASSISTANT else others
                    group.append((number, clip.first_frame, clip.n_frames))
        self._own, self._others = own or others, others or own
        self._mean, self._scale = _heard_means(shards)

    def draw(self, step: int, n_crops: int | None = None) -> tuple[Tensor, Tensor]:
        """Sound (crops, samples) and the teacher's rows (crops, frames, 2, 384), centred.

        Two rows a frame, of the frame before and of this one: some sounds are known only once
        they are over.
        """
        rng = np.random.default_rng((self.recipe.seed, step))
        n_frames = self.recipe.crop_frames
        pcm, heard = [], []
        for _ in range(n_crops or self.recipe.n_crops):
            group = self._own if rng.random() < self.recipe.assistant_share else self._others
            number, first, length = group[int(rng.integers(len(group)))]
            place = int(rng.integers(1, length - n_frames))
            start = (first + place) * FRAME_SAMPLES + int(rng.integers(-480, 481))
            piece = self._shards[number].audio[start : start + n_frames * FRAME_SAMPLES]
            gain = 10 ** (rng.uniform(-8, 2) / 20) * rng.choice([-1.0, 1.0]) / 32767
            pcm.append(np.clip(piece * gain, -1, 1).astype(np.float32))
            rows = self._shards[number].heard[first + place - 1 : first + place + n_frames]
            places = np.arange(place - 1, place + n_frames)
            means = self._mean[np.minimum(places, len(self._mean) - 1)]
            rows = (rows.astype(np.float32) - means) / self._scale
            heard.append(np.stack([rows[:-1], rows[1:]], 1))
        return torch.from_numpy(np.stack(pcm)), torch.from_numpy(np.stack(heard))


def _heard_means(shards: Sequence[Shard]) -> tuple[np.ndarray, np.ndarray]:
    """Mean row at each place of a clip, for rows say where they are; and their deviation."""
    longest = 48
    sums, counts = np.zeros((longest, _HEARD_WIDTH)), np.zeros((longest, 1))
    squares = np.zeros(_HEARD_WIDTH)
    for shard in shards:
        for clip in shard.clips:
            rows = shard.heard[clip.first_frame : clip.first_frame + min(clip.n_frames, longest)]
            sums[: len(rows)] += rows
            counts[: len(rows)] += 1
            squares += np.square(rows.astype(np.float64)).mean(0)
    mean = sums / np.maximum(counts, 1)
    whole = sums.sum(0) / counts.sum()
    mean[counts[:, 0] < 20] = whole
    deviation = np.sqrt(np.maximum(squares / max(counts[0, 0], 1) - whole**2, 1e-4))
    return mean.astype(np.float32), deviation.astype(np.float32)


class Trainee(nn.Module):
    """The codec with the head that the teacher looks at; the head is not shipped."""

    def __init__(self, recipe: CodecRecipe) -> None:
        super().__init__()
        self.codec = CodecNet(recipe.sizes, recipe.seed)
        torch.manual_seed(recipe.seed)
        width = recipe.sizes.dimension
        self.head = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, 2 * _HEARD_WIDTH)
        )


class CodecTrainer(Trainer):
    """One run, in memory; `path` is where it is kept."""

    def __init__(
        self,
        recipe: CodecRecipe,
        crops: Crops,
        path: Path,
        device: str = "cpu",
    ) -> None:
        self.recipe, self.crops, self.device = recipe, crops, device
        self.net = Trainee(recipe).to(device)
        self.loss = SpectralLoss().to(device)
        optimizer = torch.optim.AdamW(
            self.net.parameters(),
            recipe.learning_rate,
            betas=(0.8, 0.99),
            weight_decay=1e-3,
            fused=True,
        )
        if path.is_file():
            state = load_run(path, self.net, optimizer)
        else:
            state = RunState(phase="plain", hardware=hardware_text(device))
            self.net.codec.fit_scales(crops.draw(-1 % (1 << 31), 16)[0].to(device))
        super().__init__(recipe, path, self.net, self.net, optimizer, state)

    def _held_rate(self) -> float:
        return self._warm_rate()

    def _before_finishing(self, done: int, n_steps: int) -> None:
        """In the last quarter the codebooks are fitted anew and stay as they are from then on.

        So all of their entries are in use; the encoder stays too, and the decoder follows.
        """
        if done == n_steps * 3 // 4:
            self._fit_codebooks()
            self.state.phase = "settled"

    def _fit_codebooks(self) -> None:
        """Fit every codebook to what the encoder gives now."""
        codec = self.net.codec.eval()
        with torch.no_grad():
            latents = [
                codec.encode(self.crops.draw(2_000_000_000 + i, 16)[0].to(self.device))
                for i in range(_FIT_BATCHES)
            ]
        rows = torch.cat([part.transpose(1, 2).flatten(0, 1) for part in latents])
        codec.quantizer.start(rows.T[None])

    def _learn(self) -> dict[str, Tensor]:
        recipe, net = self.recipe, self.net.train()
        pcm, heard = (x.to(self.device) for x in self.crops.draw(self.state.step))
        made, quantized = self._through(pcm)
        mel, linear = self.loss(made, pcm)
        seen = net.head(quantized.content.transpose(1, 2)).unflatten(-1, (2, _HEARD_WIDTH))
        content = 1 - functional.cosine_similarity(seen, heard, dim=-1).mean()
        total = recipe.mel_weight * mel + recipe.linear_weight * linear
        total = total + recipe.content_weight * content
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        norm = nn.utils.clip_grad_norm_(net.parameters(), 20.0)
        self.optimizer.step()
        return {"mel": mel, "linear": linear, "content": content, "gradient": norm}

    def _through(self, pcm: Tensor) -> tuple[Tensor, Quantized]:
        """There and back; once the codes are settled, nothing before the decoder learns."""
        codec = self.net.codec
        if self.state.phase != "settled":
            made: tuple[Tensor, Quantized] = codec(pcm, quantize=False)
            return made
        with torch.no_grad():
            quantized = codec.quantizer(codec.encode(pcm), quantize=True)
        return codec.decode(quantized.latent), quantized
