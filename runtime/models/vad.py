"""Voice activity: is this 32 ms of sound speech? Silero's network, its state a value outside it.

Source: snakers4/silero-vad (MIT), v6.2, ONNX form. It runs through onnxruntime because that costs a
sixth of its ggml form and brings no second ggml into the process, where llama.cpp has its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelDamagedError, ShapeError
from runtime.backends.ort import Session, open_session

Float32 = NDArray[np.float32]

CHUNK_SAMPLES = 512
_CONTEXT_SAMPLES = 64
_STATE_SHAPE = (2, 1, 128)


class Vad:
    """The weights, loaded once; each conversation has its own Listening from start()."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        """files: the model's verified files by name, one .onnx among them."""
        graphs = [path for name, path in files.items() if name.endswith(".onnx")]
        if len(graphs) != 1:
            raise ModelDamagedError(
                f"voice activity needs one .onnx file, models.lock names {len(graphs)}"
            )
        self._session = open_session(graphs[0])

    def start(self) -> Listening:
        """The state of a new conversation: nothing heard yet."""
        return Listening(self._session)


class Listening:
    """One conversation's state: what the network remembers and the last 4 ms it heard."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._sound: Float32 = np.zeros((1, _CONTEXT_SAMPLES + CHUNK_SAMPLES), np.float32)
        self._state: Float32 = np.zeros(_STATE_SHAPE, np.float32)
        self._rate = np.array(16_000, np.int64)

    def probability(self, chunk: Float32) -> float:
        """Speech probability 0..1 of the next float32 (512,), 16 kHz mono. Raises ShapeError."""
        if chunk.shape != (CHUNK_SAMPLES,) or chunk.dtype != np.float32:
            raise ShapeError(
                "chunk", got=f"{chunk.dtype} {chunk.shape}", want=f"float32 ({CHUNK_SAMPLES},)"
            )
        self._sound[0, :_CONTEXT_SAMPLES] = self._sound[0, -_CONTEXT_SAMPLES:]
        self._sound[0, _CONTEXT_SAMPLES:] = chunk
        feeds: dict[str, NDArray[Any]] = {
            "input": self._sound,
            "state": self._state,
            "sr": self._rate,
        }
        out = self._session.run(feeds)
        self._state = out["stateN"]
        return float(out["output"][0, 0])
