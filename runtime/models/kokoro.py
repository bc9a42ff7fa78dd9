"""Kokoro, a larger voice of 82 million parameters: phonemes and a style in, 24 kHz speech out.

Source: hexgrad/Kokoro-82M (Apache-2.0) in ONNX form. Text becomes phonemes through the starter
voice, which was distilled from this network and writes the same alphabet, so it has to be here too.
A style fits any phonemes: a Japanese voice speaks English, with its accent.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelDamagedError, UsageError
from runtime.backends.ort import open_session
from runtime.models.tts import Speech, trim

# Positions of the network, with the mark at both ends.
_MOST_PHONEMES = 508
_STYLE_SIZE = 256


class KokoroVoice:
    """One of the network's voices, loaded once; has no state between clauses."""

    def __init__(
        self,
        files: Mapping[str, Path],
        phonemes: Callable[[str], Sequence[str]],
        *,
        voice: str = "",
        threads: int = 1,
    ) -> None:
        """files: the model's verified files by name. phonemes: text to phonemes, in pieces.

        voice: a name in its file of voices; "" is the first. Raises ModelDamagedError; UsageError
        for a voice that is not there.
        """
        graph = next(path for name, path in files.items() if name.endswith(".onnx"))
        styles = next(path for name, path in files.items() if name.startswith("voices"))
        alphabet = json.loads(files["vocab.json"].read_text(encoding="utf-8"))
        self._ids: Mapping[str, int] = alphabet.get("vocab", alphabet)
        self._styles = read_style(styles, voice)
        self._session = open_session(graph, threads=threads)
        self._output = next(iter(self._session.outputs))
        self._phonemes = phonemes

    def speak(self, text: str, *, seed: int, speed: float = 1.0) -> Speech:
        """Say text (words only), the silence at both ends cut; the seed is not needed.

        speed: 0.5 slow .. 2 fast. Text without anything to say gives an empty pcm.
        """
        parts = [self._speak(piece, speed) for piece in self._phonemes(text)]
        return Speech(trim(np.concatenate([np.zeros(0, np.float32), *parts])), text)

    def _speak(self, phonemes: str, speed: float) -> NDArray[np.float32]:
        ids = [self._ids[c] for c in phonemes if c in self._ids][:_MOST_PHONEMES]
        if not ids:
            return np.zeros(0, np.float32)
        style = self._styles[min(len(ids), len(self._styles) - 1)].reshape(1, _STYLE_SIZE)
        feeds = {
            "tokens": np.array([[0, *ids, 0]], np.int64),
            "style": style.astype(np.float32),
            "speed": np.array([speed], np.float32),
        }
        pcm: NDArray[np.float32] = np.ravel(self._session.run(feeds)[self._output])
        return pcm


def read_style(path: Path, voice: str) -> NDArray[np.float32]:
    """A voice's styles by number of phonemes, float32 (n, 1, 256), from a numpy archive.

    Raises ModelDamagedError, UsageError with the names there are.
    """
    try:
        with np.load(path, allow_pickle=False) as styles:
            name = voice or styles.files[0]
            if name not in styles.files:
                raise UsageError(f"there is no voice {name!r}; known: {', '.join(styles.files)}")
            found: NDArray[np.float32] = styles[name]
    except (OSError, ValueError, IndexError, zipfile.BadZipFile) as error:
        raise ModelDamagedError(f"{path.name}: no archive of voices ({error})") from error
    if found.ndim != 3 or found.shape[-1] != _STYLE_SIZE:
        raise ModelDamagedError(f"{path.name}: voice {name} has the shape {found.shape}")
    return found
