"""The depth transformer's step: one run of its graph a frame, all codebooks, sampling inside."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ArtifactError
from runtime.backends.ort import Session
from runtime.models.multistream.delays import Int64
from runtime.models.multistream.sampling import Float32, Sampling, gumbel


class DepthStep:
    """One conversation's buffers, bound to the graph once; weights are the session's."""

    def __init__(
        self, session: Session, *, rows: int, sampling: Sampling, guidance: float = 1.0
    ) -> None:
        """rows: 2 where the conversation is guided by a second one without its condition."""
        try:
            dim = session.inputs["hidden"].shape[1]
            n_steps, card = session.inputs["noise"].shape
        except (KeyError, IndexError, ValueError) as error:
            raise ArtifactError(f"{session.name}: not a depth graph; export it again") from error
        if dim is None or n_steps is None or card is None:
            raise ArtifactError(f"{session.name}: not a depth graph; export it again")
        self._sampling = sampling
        self._hidden = np.zeros((rows, dim), np.float32)
        self._text = np.zeros(1, np.int64)
        self._noise = np.zeros((n_steps, card), np.float32)
        self._forced = np.full(n_steps, -1, np.int64)
        self._codes = np.zeros(n_steps, np.int64)
        self.logits: NDArray[np.float32] = np.zeros((n_steps, card), np.float32)
        self._inputs: dict[str, NDArray[Any]] = {
            "hidden": self._hidden,
            "text_token": self._text,
            "noise": self._noise,
            "forced": self._forced,
            "top_k": np.array([min(sampling.top_k, card)], np.int64),
            "inverse_temperature": np.array([1.0 / sampling.temperature], np.float32),
            "guidance": np.array([guidance], np.float32),
        }
        self._bound = session.bind(self._inputs, {"codes": self._codes, "logits": self.logits})

    def run(
        self,
        hidden: Float32,
        text_token: int,
        rng: np.random.Generator,
        *,
        forced: Int64 | None = None,
    ) -> Int64:
        """Write one frame's codes, int64 (n_steps,), a fresh array.

        hidden: float32 (rows, dim), normed. forced: codes to take in place of drawn ones, -1 for
        none. `logits` holds what each code was drawn from until the next run.
        """
        self._hidden[:] = hidden
        self._text[0] = text_token
        self._forced[:] = -1 if forced is None else forced
        if not self._sampling.greedy:
            n_steps, n_best = len(self._noise), self._sampling.top_k
            self._noise[:, :n_best] = gumbel(rng, (n_steps, n_best))
        self._bound.run()
        return self._codes.copy()

    def feeds(self, *, forced: Int64) -> dict[str, NDArray[Any]]:
        """The last run's inputs, with codes to take, for another session of the same graph."""
        return {**self._inputs, "forced": forced}
