"""Frame and Reply: 80 ms in, 80 ms out. The only home of the numbers 24 000, 1 920 and 80."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edge.errors import ShapeError

# float32, mono, 24 kHz, nominally within [-1, 1].
Pcm = NDArray[np.float32]

SAMPLE_RATE_HZ = 24_000
FRAME_SAMPLES = 1_920
FRAME_MS = 80
FRAME_NS = FRAME_MS * 1_000_000
FRAME_RATE_HZ = SAMPLE_RATE_HZ / FRAME_SAMPLES  # 12.5

_NOTHING: Mapping[str, object] = MappingProxyType({})


def silence() -> Pcm:
    """One frame of zeros, float32 (1920,); a fresh array each time, so callers may write to it."""
    return np.zeros(FRAME_SAMPLES, np.float32)


def check_frame(name: str, pcm: Pcm) -> None:
    """Refuse what is not exactly one frame: float32 (1920,). Raises ShapeError."""
    if pcm.shape != (FRAME_SAMPLES,) or pcm.dtype != np.float32:
        raise ShapeError(
            name,
            got=f"{pcm.dtype} {pcm.shape}",
            want=f"float32 ({FRAME_SAMPLES},)",
        )


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """80 ms of microphone.

    index: 0, 1, 2, ... without gaps; frame `index` begins at index * 80 ms.
    captured_ns: when its last sample was captured, on the loop's clock.
    pcm: float32 (1920,), 24 kHz mono, [-1, 1].
    """

    index: int
    captured_ns: int
    pcm: Pcm

    def __post_init__(self) -> None:
        check_frame("Frame.pcm", self.pcm)


@dataclass(frozen=True, slots=True)
class Event:
    """Something an engine decided in a step: a turn that ended, a reply that began, a caption.

    kind: a short constant name, such as "turn_ended". facts: small plain values (str, int, float).
    """

    kind: str
    facts: Mapping[str, object] = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """80 ms of speaker, always whole: silence is zeros, never None.

    index: the frame it answers. pcm: float32 (1920,), 24 kHz mono.
    text: caption that belongs to this frame, "" for most. events: what was decided in this step.
    """

    index: int
    pcm: Pcm
    text: str = ""
    events: tuple[Event, ...] = ()

    def __post_init__(self) -> None:
        check_frame("Reply.pcm", self.pcm)
