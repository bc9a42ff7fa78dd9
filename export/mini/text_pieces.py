"""The inner text: a SentencePiece model of the little world's words, and words laid over frames."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge.atomic import atomic_path

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

END_OF_PADDING, PADDING = 0, 3


def train_pieces(sentences: Iterable[str], n_pieces: int, path: Path) -> None:
    """Write a SentencePiece model of exactly n_pieces; 0 ends padding and 3 is padding.

    Every letter gets a piece, a rare one too: a letter without one would be never said.
    """
    import sentencepiece

    with tempfile.TemporaryDirectory(prefix="edge-mini-") as folder:
        text = Path(folder) / "sentences.txt"
        text.write_text("\n".join(sentences), encoding="utf-8")
        sentencepiece.SentencePieceTrainer.train(
            input=str(text), model_prefix=f"{folder}/pieces", vocab_size=n_pieces,
            model_type="unigram", unk_id=0, bos_id=1, eos_id=2, pad_id=3,
            character_coverage=1.0, hard_vocab_limit=True, minloglevel=2, num_threads=1,
            normalization_rule_name="identity", max_sentence_length=1000,
        )  # fmt: skip
        with atomic_path(path) as part:
            part.write_bytes(Path(f"{folder}/pieces.model").read_bytes())


def open_pieces(path: Path) -> SentencePieceProcessor:
    """A trained model."""
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(str(path))


def laid_over(pieces: SentencePieceProcessor, text: str, n_frames: int) -> list[int]:
    """One token a frame: each word's pieces from the frame where it begins, padding between.

    A word begins where its share of the letters before it says; where pieces crowd, the later ones
    wait. Pieces that find no frame are dropped, so give a text as many frames as it is long.
    """
    row = [PADDING] * n_frames
    words = text.split()
    letters = [len(word) + 1 for word in words]
    free, passed = 0, 0
    for word, length in zip(words, letters, strict=True):
        first = max(free, int(n_frames * passed / max(1, sum(letters))))
        if first > free and first > 0 and row[first - 1] == PADDING:
            row[first - 1] = END_OF_PADDING
        tokens: Sequence[int] = pieces.encode(word)
        for place, token in enumerate(tokens):
            if first + place < n_frames:
                row[first + place] = token
        free, passed = first + len(tokens), passed + length
    return row
