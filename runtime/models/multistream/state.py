"""One conversation with a multistream model: what it holds, and how it is put into a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ArtifactError
from runtime.backends.llama import KvType, LlamaContext
from runtime.models.multistream.delays import DelayLine, Int64
from runtime.models.multistream.depth import DepthStep
from runtime.models.multistream.sampling import Float32, Sampling
from runtime.models.multistream.window import Forget, Window

_NO_HEADS: tuple[Float32, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class StepOut:
    """What one step gives, aligned as one frame of sound.

    text_token: None while the delays fill. codes: int64 (n_written,), None while they fill and
    for a model without a depth transformer. heads: probabilities of its extra heads.
    """

    text_token: int | None
    codes: Int64 | None
    heads: tuple[Float32, ...] = _NO_HEADS


@dataclass(slots=True)
class Timing:
    """What the parts of the last step took, in nanoseconds.

    shift_ns: what moving the cache's positions cost, 0 in most steps; a part of temporal_ns.
    """

    temporal_ns: int = 0
    text_ns: int = 0
    depth_ns: int = 0
    shift_ns: int = 0


@dataclass(frozen=True, slots=True)
class Settings:
    """What a conversation was begun with. n_context: positions that are attended to."""

    text: Sampling
    audio: Sampling
    guidance: float
    kv: KvType
    n_context: int

    def as_facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Settings:
        """From as_facts(). Raises KeyError, TypeError where it is not that."""
        values = dict(facts)
        values["text"] = Sampling(**values["text"])
        values["audio"] = Sampling(**values["audio"])
        return cls(**values)


@dataclass(slots=True)
class MoshiState:
    """One conversation; its KV cache lives in llama.cpp, close() frees it.

    condition: float32 (rows, dim), added to every input; two rows where it is guided.
    hidden, logits: of the last step, float32 (rows, dim) and (n_text,); views that the next step
    overwrites.
    """

    settings: Settings
    context: LlamaContext
    window: Window
    line: DelayLine
    rng: np.random.Generator
    condition: Float32
    depth: DepthStep | None
    hidden: Float32
    logits: Float32
    timing: Timing = field(default_factory=Timing)

    def close(self) -> None:
        """Free what the libraries hold; safe to call twice."""
        self.context.close()

    def make_room(self, *, quiet: bool) -> bool:
        """Carry out what the window asks for before the next position; whether keys were moved.

        The library moves them in the next step, which takes the longer for it.
        """
        shifted = False
        for move in self.window.make_room(quiet=quiet):
            if isinstance(move, Forget):
                self.context.forget(move.first, move.end)
            else:
                self.context.shift(move.first, -1, move.delta)
                shifted = True
        return shifted

    def pack(self) -> dict[str, NDArray[Any]]:
        """Everything that makes the conversation go on as it would have, as plain arrays."""
        window = self.window
        facts = {"settings": self.settings.as_facts(), "rng": self.rng.bit_generator.state}
        return {
            "facts": np.frombuffer(json.dumps(facts).encode(), np.uint8),
            "kv": np.frombuffer(self.context.save(), np.uint8),
            "line": self.line.snapshot(),
            "window": np.array(
                [window.n_prefix, window.first, window.next_position, window.context], np.int64
            ),
            "condition": self.condition,
            "hidden": np.array(self.hidden),
            "logits": np.array(self.logits),
        }

    def unpack(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what pack() gave; this conversation has the same settings.

        Raises ArtifactError, ModelDamagedError, ShapeError.
        """
        try:
            n_prefix, first, next_position, n_held = (int(value) for value in arrays["window"])
            self.context.load(arrays["kv"].tobytes())
            self.window = Window(n_held, n_prefix=n_prefix)
            self.window.first, self.window.next_position = first, next_position
            self.line.restore(arrays["line"])
            self.hidden, self.logits = arrays["hidden"], arrays["logits"]
            self.rng.bit_generator.state = saved_facts(arrays)["rng"]
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"a saved conversation lacks {error}; start a new one") from error


def saved_facts(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """The plain values in what pack() gave. Raises KeyError, ValueError."""
    facts: dict[str, Any] = json.loads(arrays["facts"].tobytes())
    return facts
