"""CTranslate2: the only place that knows it. A Whisper network: features in, token strings out."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import DeviceError, MissingPackageError, ModelDamagedError, ShapeError, UsageError

log = logging.getLogger(__name__)

Float32 = NDArray[np.float32]

MAX_COLUMNS = 3_000  # 30 s of features; the network has no positions beyond
MAX_POSITIONS = MAX_COLUMNS // 2  # the encoder halves the rate


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How tokens are searched.

    beam_size: 1 takes the likeliest token each time. max_tokens: of text, the prompt not counted.
    """

    beam_size: int = 1
    max_tokens: int = 224


@dataclass(frozen=True, slots=True)
class Decoded:
    """tokens: strings of the vocabulary, without the prompt and the end mark.

    score: log probability of all tokens and the end mark, a token. no_speech_prob: 0..1.
    """

    tokens: tuple[str, ...]
    score: float
    no_speech_prob: float


def load_ctranslate2() -> ModuleType:
    """Import ctranslate2. Raises MissingPackageError."""
    try:
        return importlib.import_module("ctranslate2")
    except ImportError as error:
        raise MissingPackageError(
            "ctranslate2", extra="cascade", needed_for="the starter recogniser"
        ) from error


class WhisperNet:
    """Loaded Whisper weights; no state between calls, and other threads run during a call."""

    def __init__(
        self, files: Mapping[str, Path], *, threads: int = 1, compute_type: str = "int8"
    ) -> None:
        """files: verified files by name, model.bin and config.json among them, all in one folder.

        compute_type: what the weights are turned into while loading, as CTranslate2 names it.
        Raises ModelDamagedError, DeviceError, UsageError, MissingPackageError.
        """
        if threads < 1:
            raise UsageError(f"threads must be at least 1, got {threads}")
        folder = _folder(files)
        library = load_ctranslate2()
        known = library.get_supported_compute_types("cpu")
        if compute_type not in known:
            raise DeviceError(
                f"compute type {compute_type!r} does not run here; "
                f"use one of {', '.join(sorted(known))}"
            )
        try:
            self._net: Any = library.models.Whisper(
                str(folder),
                device="cpu",
                compute_type=compute_type,
                intra_threads=threads,
                inter_threads=1,
            )
        except (RuntimeError, ValueError) as error:
            raise ModelDamagedError(
                f"{folder.name}: CTranslate2 cannot load this model ({_first_line(error)}); "
                "fetch it again with: edge models fetch"
            ) from error
        self._view: Any = library.StorageView
        self.multilingual = bool(self._net.is_multilingual)
        self.n_mels = int(self._net.n_mels)
        log.info("%s: CTranslate2 %s, %d thread(s)", folder.name, compute_type, threads)

    def encode(self, features: Float32) -> Float32:
        """What the encoder makes of one window.

        features: float32 (n_mels, n), n even, 2..3000, 10 ms a column; the cost grows faster than
        n. Returns float32 (n // 2, d_model), 20 ms a row. Raises ShapeError.
        """
        n = features.shape[-1]
        if features.shape != (self.n_mels, n) or not 2 <= n <= MAX_COLUMNS or n % 2:
            raise ShapeError(
                "features", got=features.shape, want=f"({self.n_mels}, n), n even, 2..{MAX_COLUMNS}"
            )
        view = self._view.from_array(np.ascontiguousarray(features[None], np.float32))
        encoded = np.array(self._net.encode(view, to_cpu=True))
        return np.asarray(encoded[0], np.float32)

    def decode(self, encoded: Float32, prompt: Sequence[str], options: DecodeOptions) -> Decoded:
        """Tokens for float32 (rows, d_model), n_mels < rows <= 1500, as `encode` gives them.

        prompt: control tokens, of which the last asks for the text. Raises ShapeError.
        """
        # CTranslate2 takes an array with n_mels rows for features.
        if encoded.ndim != 2 or not self.n_mels < len(encoded) <= MAX_POSITIONS:
            raise ShapeError(
                "encoded", got=encoded.shape, want=f"{self.n_mels} < rows <= {MAX_POSITIONS}"
            )
        (result,) = self._net.generate(
            self._view.from_array(np.ascontiguousarray(encoded[None], np.float32)),
            [list(prompt)],
            beam_size=options.beam_size,
            # The library halves it, or takes the prompt off, whichever leaves less.
            max_length=max(2 * options.max_tokens, len(prompt) + options.max_tokens),
            return_scores=True,
            return_no_speech_prob=True,
            suppress_blank=True,
            suppress_tokens=[-1],  # the set that config.json names
        )
        return Decoded(
            tuple(result.sequences[0]), float(result.scores[0]), float(result.no_speech_prob)
        )


def _folder(files: Mapping[str, Path]) -> Path:
    """The one folder the files lie in. Raises UsageError."""
    folders = {path.parent for path in files.values()}
    if len(folders) != 1:
        raise UsageError(
            f"a CTranslate2 model must lie in one folder, got {sorted(map(str, folders))}; "
            "bring its files together with: edge models import PATH"
        )
    return folders.pop()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
