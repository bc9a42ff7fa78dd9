"""What a new run of the multistream model starts from: the codec's vectors, or an earlier run.

An earlier run may have had another tokenizer: pieces that both know keep what was learnt of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from export.mini.checkpoints import RunState, load_run
from export.mini.lm_net import LmNet

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

    from export.mini.lm_train import Listener, LmRecipe

_PIECE_ROWS = ("text_emb/weight", "depformer_text_emb/weight", "text_linear/weight")
_N_SPECIAL = 4  # end of padding, two unused ones, padding


def start_from_codebooks(lm: LmNet, tables: Tensor, seed: int) -> None:
    """Give codes that sound alike embeddings that are alike: project the codec's own vectors.

    tables: (8, card, width) of the codec. Own and user streams of a codebook get other projections.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for k in range(lm.sizes.n_streams):
            table = tables[k % len(tables)].float()
            table = (table - table.mean(0)) / table.std().clamp(min=1e-6)
            turn = torch.randn(table.shape[1], lm.sizes.dim, generator=generator)
            lm[f"emb.{k}.weight"][: len(table)] = 0.4 * table @ turn * table.shape[1] ** -0.5


def start_from_run(
    net: Listener,
    recipe: LmRecipe,
    path: Path,
    old: SentencePieceProcessor,
    new: SentencePieceProcessor,
) -> RunState:
    """Fill net with the weights of the run at `path`; returns how far that run was.

    old, new: the tokenizers of that run and of this one. Rows of pieces that only the new one has
    stay as net has them. Raises ModelDamagedError.
    """
    from export.mini.lm_train import Listener

    earlier = Listener(recipe)
    state = load_run(path, earlier)
    rows = shared_pieces(old, new)
    mine: Mapping[str, Tensor] = dict(net.named_parameters())
    with torch.no_grad():
        for name, value in earlier.named_parameters():
            if name.startswith("ears.") or name.endswith(_PIECE_ROWS):
                for new_row, old_row in rows.items():
                    mine[name][new_row] = value[old_row]
                mine[name][new.vocab_size() :] = value[old.vocab_size() :]
            else:
                mine[name].copy_(value)
    return state


def shared_pieces(old: SentencePieceProcessor, new: SentencePieceProcessor) -> dict[int, int]:
    """For every row of the new tokenizer that the old one has too, the row there."""
    known = {old.id_to_piece(row): row for row in range(_N_SPECIAL, old.vocab_size())}
    rows = {row: row for row in range(_N_SPECIAL)}
    for row in range(_N_SPECIAL, new.vocab_size()):
        piece = new.id_to_piece(row)
        if piece in known:
            rows[row] = known[piece]
    return rows
