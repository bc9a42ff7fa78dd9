"""Training of the multistream miniature on conversations of the bank.

Beside its own text and codes it learns, with a head that is not shipped, which words the user has
just said: that teaches listening long before replies are right. A run goes on for as long as there
is time; `finish` lets the rate fall on a copy, so that the run itself can go on later.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from export.mini.checkpoints import RunState, hardware_text, load_run
from export.mini.conversations import Conversation, Maker
from export.mini.lm_net import LmNet, LmSizes, delayed
from export.mini.text_pieces import END_OF_PADDING, PADDING
from export.mini.trainer import Trainer

_EXAM_FRAMES, _EXAM_BATCH = 90, 20


@dataclass(frozen=True, slots=True)
class LmRecipe:
    """How the multistream model is trained.

    n_conversations: how many different ones there are, 0 for a new one each time. depth_frames:
    frames of a batch on which own codes are learnt. padding_weight: of text tokens that are
    padding. first_code_weight: of own codebook 1 against each of the others. user_noise: share of
    the user's codes that are replaced by random ones, so that no single code is relied on.
    user_cut: share of conversations in which that happens to all the user's codebooks from a
    random one on: the first ones say what was said, the last ones by whom. dropout: of what each
    temporal layer adds. tell_every: steps between looks at the phrasings kept for that.
    """

    sizes: LmSizes
    seed: int = 7
    stage: str = "core"
    n_conversations: int = 0
    batch: int = 4
    n_frames: int = 160
    learning_rate: float = 1.5e-3
    warm_up_steps: int = 60
    depth_frames: int = 96
    padding_weight: float = 0.15
    first_code_weight: float = 3.0
    heard_weight: float = 0.5
    user_noise: float = 0.08
    user_cut: float = 0.0
    dropout: float = 0.0
    weight_decay: float = 1e-2
    tell_every: int = 200
    save_every: int = 50


def read_lm_recipe(path: Path) -> LmRecipe:
    """The committed recipe: tables [sizes] and [training]."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    sizes: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in table["sizes"].items()
    }
    return LmRecipe(sizes=LmSizes(**sizes), **table["training"])


class Listener(nn.Module):
    """The model with the head for the user's words."""

    def __init__(self, recipe: LmRecipe) -> None:
        super().__init__()
        self.lm = LmNet(recipe.sizes, recipe.seed, recipe.dropout)
        torch.manual_seed(recipe.seed)
        self.ears = nn.Linear(recipe.sizes.dim, recipe.sizes.text_card)


@dataclass(frozen=True, slots=True)
class Batch:
    """tokens: (batch, 17, frames) aligned; heard (batch, frames); speaks (batch, frames)."""

    tokens: Tensor
    heard: Tensor
    speaks: Tensor


def collate(conversations: list[Conversation], device: str) -> Batch:
    """Conversations of equal length as tensors."""
    return Batch(
        torch.from_numpy(np.stack([c.tokens for c in conversations])).to(device),
        torch.from_numpy(np.stack([c.heard for c in conversations])).to(device),
        torch.from_numpy(np.stack([c.speaks for c in conversations])).to(device),
    )


class LmTrainer(Trainer):
    """One run, in memory; `path` is where it is kept."""

    report_every = 10

    def __init__(self, recipe: LmRecipe, maker: Maker, path: Path, device: str = "cpu") -> None:
        self.recipe, self.maker, self.device = recipe, maker, device
        self.net = Listener(recipe).to(device)
        optimizer = torch.optim.AdamW(
            self.net.parameters(), recipe.learning_rate, betas=(0.9, 0.95),
            weight_decay=recipe.weight_decay, fused=True,
        )  # fmt: skip
        if path.is_file():
            state = load_run(path, self.net, optimizer)
        else:
            state = RunState(phase="run", hardware=hardware_text(device))
        super().__init__(recipe, path, self.net, self.net, optimizer, state)
        self._kept = [maker.exam(u, _EXAM_FRAMES) for u in maker.bank.of("ask", "validation")]

    def _draw(self) -> Batch:
        recipe, made = self.recipe, []
        for place in range(recipe.batch):
            number = self.state.step * recipe.batch + place
            if recipe.n_conversations:
                number %= recipe.n_conversations
            made.append(self.maker.make((recipe.seed, number), recipe.n_frames))
        batch = collate(made, self.device)
        rng = np.random.default_rng((recipe.seed, self.state.step, 5))
        user = batch.tokens[:, 1 + recipe.sizes.n_own :]
        noisy = rng.random(user.shape) < recipe.user_noise
        for row in np.flatnonzero(rng.random(len(user)) < recipe.user_cut):
            noisy[row, int(rng.integers(2, recipe.sizes.n_user)) :] = True
        wrong = torch.from_numpy(noisy).to(self.device)
        other = torch.from_numpy(rng.integers(0, recipe.sizes.card, user.shape)).to(self.device)
        user[wrong] = other[wrong]
        return batch

    def _learn(self) -> dict[str, Tensor]:
        batch = self._draw()
        losses = lm_losses(self.net.train(), batch, self.recipe, self.state.step)
        total = losses["text"] + losses["codes"] + self.recipe.heard_weight * losses["heard"]
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        losses |= {"gradient": norm}
        if self._kept and (self.state.step + 1) % self.recipe.tell_every == 0:
            right = [replies_right(self.net.eval(), batch) for batch in self._kept_batches()]
            losses["validation"] = torch.cat(right).float().mean()
        return losses

    def _kept_batches(self) -> Iterator[Batch]:
        for first in range(0, len(self._kept), _EXAM_BATCH):
            yield collate(self._kept[first : first + _EXAM_BATCH], self.device)


def lm_losses(net: Listener, batch: Batch, recipe: LmRecipe, step: int) -> dict[str, Tensor]:
    """text, codes, heard: to be made small; words: share of reply tokens that are right."""
    sizes = recipe.sizes
    columns = delayed(batch.tokens, sizes)
    hidden, logits = net.lm(columns[:, :, :-1])
    target = columns[:, 1:, 1:]
    wanted = columns[:, 0, 1:]
    spoken = wanted != PADDING
    each = functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
    weight = torch.where(spoken, 1.0, recipe.padding_weight).flatten()
    text = (each * weight).sum() / weight.sum()
    right = (logits.argmax(-1) == wanted)[spoken]
    words = right.float().mean() if len(right) else torch.ones(())

    rows = _depth_rows(batch.speaks, recipe.depth_frames, (recipe.seed, step)).to(wanted.device)
    own = target[:, : sizes.n_own].transpose(1, 2).flatten(0, 1)[rows]
    codes = net.lm.depth(
        hidden.flatten(0, 1)[rows], wanted.flatten()[rows], own.clamp(max=sizes.card)
    )
    share = torch.ones(sizes.n_own, device=own.device)
    share[0] = recipe.first_code_weight
    known = (own < sizes.card) * share
    miss = functional.cross_entropy(
        codes.flatten(0, 1), own.clamp(max=sizes.card - 1).flatten(), reduction="none"
    )
    code_loss = (miss * known.flatten()).sum() / known.sum().clamp(min=1)

    heard = batch.heard >= 0
    ears = (
        functional.cross_entropy(net.ears(hidden[heard]), batch.heard[heard])
        if bool(heard.any())
        else hidden.new_zeros(())
    )
    return {"text": text, "codes": code_loss, "heard": ears, "words": words}


@torch.no_grad()
def replies_right(net: Listener, batch: Batch) -> Tensor:
    """Bool (batch,): whether every piece of the reply is the likeliest of all, given the former.

    Padding is left out: when a reply begins is not asked here.
    """
    columns = delayed(batch.tokens, net.lm.sizes)
    _, logits = net.lm(columns[:, :, :-1])
    wanted = columns[:, 0, 1:]
    logits[:, :, [END_OF_PADDING, PADDING]] = -torch.inf
    quiet = (wanted == PADDING) | (wanted == END_OF_PADDING)
    right: Tensor = quiet | (logits.argmax(-1) == wanted)
    return right.all(1)


def _depth_rows(speaks: Tensor, n: int, seed: tuple[int, int]) -> Tensor:
    """Which frames of a flattened batch to learn codes on: four in five where it speaks."""
    rng = np.random.default_rng((*seed, 3))
    # Acoustic codes stand a frame later: the frame after speech counts as speech.
    flat = speaks.cpu().numpy()
    late = np.pad(flat, ((0, 0), (1, 0)))[:, :-1]
    loud = np.flatnonzero((flat | late).ravel())
    quiet = np.flatnonzero(~(flat | late).ravel())
    n_loud = min(len(loud), n * 4 // 5)
    chosen = [rng.permutation(loud)[:n_loud], rng.permutation(quiet)[: n - n_loud]]
    return torch.from_numpy(np.sort(np.concatenate(chosen)).astype(np.int64))


def recipe_fields() -> tuple[str, ...]:
    """Names a [training] table may have."""
    return tuple(field.name for field in fields(LmRecipe) if field.name != "sizes")
