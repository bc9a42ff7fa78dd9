"""The wake word: was it said in the last second and a half? Models in the manner of openWakeWord.

Three graphs, one after the other, for every 80 ms: sound becomes 8 columns of a spectrogram of 32
mel bands; the last 76 columns become a vector of 96 numbers that tells what speech sounds like; a
classifier that was trained for one phrase judges the last 16 vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelDamagedError, ShapeError
from runtime.backends.ort import Session, open_session

Float32 = NDArray[np.float32]

STEP_SAMPLES = 1_280  # 80 ms at 16 kHz
MEL_FILE, EMBEDDING_FILE = "melspectrogram.onnx", "embedding_model.onnx"

_CARRIED_SAMPLES = 480  # three hops of 10 ms that the first columns look back on
_COLUMNS, _BANDS, _NEW_COLUMNS = 76, 32, 8
_VECTORS, _WIDTH = 16, 96
_FULL_SCALE = 32_767.0  # the spectrogram's graph takes the numbers of 16-bit samples


def _no_columns() -> Float32:
    return np.ones((_COLUMNS, _BANDS), np.float32)


@dataclass(slots=True)
class WakeState:
    """One listening: the last samples, columns and vectors. n_steps: how long it has lasted."""

    tail: Float32 = field(default_factory=lambda: np.zeros(_CARRIED_SAMPLES, np.float32))
    columns: Float32 = field(default_factory=_no_columns)
    vectors: Float32 = field(default_factory=lambda: np.zeros((_VECTORS, _WIDTH), np.float32))
    n_steps: int = 0


class WakeModel:
    """The loaded graphs; no state between calls. About 2 ms a step on one core."""

    def __init__(
        self, files: Mapping[str, Path], *, classifier: Path | None = None, threads: int = 1
    ) -> None:
        """files: the model's verified files by name, the classifier being the third.

        classifier: another one in its place, of the same shapes and already verified. Raises
        ModelDamagedError where the graphs do not fit together.
        """
        others = [path for name, path in files.items() if name not in (MEL_FILE, EMBEDDING_FILE)]
        if not {MEL_FILE, EMBEDDING_FILE} <= set(files) or (classifier is None and not others):
            raise ModelDamagedError(
                f"a wake word needs {MEL_FILE}, {EMBEDDING_FILE} and a classifier; models.lock "
                f"names {', '.join(files)}"
            )
        self._mel = open_session(files[MEL_FILE], threads=threads)
        self._embedding = open_session(files[EMBEDDING_FILE], threads=threads)
        self._classifier = open_session(classifier or others[0], threads=threads)
        self.warm_up()

    def warm_up(self) -> None:
        """Judge silence for nobody. Raises ModelDamagedError where the graphs do not fit."""
        try:
            self.step(WakeState(), np.zeros(STEP_SAMPLES, np.float32))
        except (ShapeError, ValueError) as error:
            raise ModelDamagedError(
                f"{self._classifier.name} is no openWakeWord model, which takes float32 "
                f"(1, {_VECTORS}, {_WIDTH}) and gives one number: {error}"
            ) from error

    def step(self, state: WakeState, pcm_16k: Float32) -> tuple[WakeState, float]:
        """Take float32 (1280,), 16 kHz mono, [-1, 1]; 0 (not said) .. 1 (just said).

        The state passed in is spent. The first second, when there is too little to judge, is 0.
        Raises ShapeError.
        """
        if pcm_16k.shape != (STEP_SAMPLES,) or pcm_16k.dtype != np.float32:
            got = f"{pcm_16k.dtype} {pcm_16k.shape}"
            raise ShapeError("pcm_16k", got=got, want=f"float32 ({STEP_SAMPLES},)")
        samples = np.rint(np.clip(pcm_16k, -1.0, 1.0) * _FULL_SCALE).astype(np.float32)
        heard = np.concatenate([state.tail, samples])
        columns = _only(self._mel, heard[None]).reshape(-1, _BANDS) / 10 + 2
        kept = np.concatenate([state.columns, columns[-_NEW_COLUMNS:]])[-_COLUMNS:]
        vector = _only(self._embedding, kept[None, :, :, None]).reshape(1, _WIDTH)
        vectors = np.concatenate([state.vectors[1:], vector])
        score = _only(self._classifier, vectors[None])
        if score.size != 1:
            raise ShapeError(self._classifier.name, got=score.shape, want="one number")
        n_steps = state.n_steps + 1
        after = WakeState(heard[-_CARRIED_SAMPLES:], kept, vectors, n_steps)
        return after, float(score.ravel()[0]) if n_steps > _VECTORS else 0.0


def _only(session: Session, array: Float32) -> Float32:
    """Run a graph of one input and one output."""
    (name,) = session.inputs
    (result,) = session.run({name: array.astype(np.float32, copy=False)}).values()
    found: Float32 = result
    return found
