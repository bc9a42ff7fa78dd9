"""The text tokens of a multistream model as text: SentencePiece, decoded as it comes."""

from __future__ import annotations

import codecs
import importlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edge.errors import MissingPackageError, ModelDamagedError

_WORD_MARK = "\u2581"
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TextTokenizer:
    """Pieces of one SentencePiece model."""

    def __init__(self, path: Path, *, silent_ids: Iterable[int]) -> None:
        """Load it. silent_ids: tokens that stand for no text, such as padding.

        Raises MissingPackageError, ModelDamagedError.
        """
        try:
            library: Any = importlib.import_module("sentencepiece")
        except ImportError as error:
            raise MissingPackageError(
                "sentencepiece", extra="duplex", needed_for="the text of a multistream model"
            ) from error
        try:
            self._model = library.SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise ModelDamagedError(f"{path.name}: not a SentencePiece model") from error
        self._silent = frozenset(silent_ids)
        self.n_tokens: int = self._model.get_piece_size()

    def encode(self, text: str) -> tuple[int, ...]:
        """The token ids of a text."""
        return tuple(self._model.encode(text))

    def piece(self, token: int) -> bytes:
        """What a token adds to the text, UTF-8, at times a part of a character; b"" for none."""
        if token in self._silent or not 0 <= token < self.n_tokens:
            return b""
        piece: str = self._model.id_to_piece(token)
        byte = _BYTE_PIECE.fullmatch(piece)
        if byte:
            return bytes([int(byte[1], 16)])
        if self._model.is_control(token) or self._model.is_unknown(token):
            return b""
        return piece.replace(_WORD_MARK, " ").encode()


class Captions:
    """Turns a conversation's tokens into text; holds back characters that are not whole yet."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int | None) -> str:
        """The text that one more token makes readable, "" for most."""
        return "" if token is None else self._decoder.decode(self._tokenizer.piece(token))
