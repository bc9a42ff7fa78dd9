"""End of turn: does a pause end what somebody wanted to say? Judged by its sound, not its words.

Source: pipecat-ai/smart-turn v3.2 (BSD-2-Clause): a Whisper encoder with a small head over the last
8 s; shorter sound stands at the end of them, after silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelDamagedError, ShapeError
from runtime.backends.ort import open_session
from runtime.models.logmel import EAR_RATE_HZ, log_mel, make_mel_plan, normalised

Float32 = NDArray[np.float32]

_HEARD_SAMPLES = 8 * EAR_RATE_HZ


class EndOfTurn:
    """The loaded network; no state between calls. About 80 ms a call on one core."""

    def __init__(self, files: Mapping[str, Path], *, threads: int = 1) -> None:
        """files: the model's verified files by name, one .onnx among them."""
        graphs = [path for name, path in files.items() if name.endswith(".onnx")]
        if len(graphs) != 1:
            raise ModelDamagedError(
                f"end of turn needs one .onnx file, models.lock names {len(graphs)}"
            )
        self._session = open_session(graphs[0], threads=threads)
        self._plan = make_mel_plan()
        (self._input,) = self._session.inputs
        self._output = next(iter(self._session.outputs))

    def warm_up(self) -> None:
        """Judge silence for nobody, so that the first call is as quick as the others."""
        self.probability(np.zeros(0, np.float32))

    def probability(self, pcm_16k: Float32) -> float:
        """0 (the speaker goes on) .. 1 (has finished) for float32 (n,), 16 kHz mono.

        It should end with the speech or at most 0.1 s after it: a longer pause is itself taken for
        an end. What is older than 8 s is not listened to. Raises ShapeError.
        """
        if pcm_16k.ndim != 1 or pcm_16k.dtype != np.float32:
            raise ShapeError("pcm_16k", got=f"{pcm_16k.dtype} {pcm_16k.shape}", want="float32 (n,)")
        heard = np.zeros(_HEARD_SAMPLES, np.float32)
        last = pcm_16k[-_HEARD_SAMPLES:]
        if last.size:
            heard[-last.size :] = last
        features = log_mel(self._plan, normalised(heard))[None]
        return float(np.ravel(self._session.run({self._input: features})[self._output])[0])
