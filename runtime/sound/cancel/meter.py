"""How well the canceller works now: echo return loss enhancement, in decibels."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace

import numpy as np

from edge.frame import Pcm

_KEPT_FRAMES = 25  # 2 s of the assistant's speech
_LEAST_FRAMES = 5
_FAR_FLOOR = 10 ** (-45 / 20)
_TINY = 1e-5
_CONVERGED_DB = 12.0


@dataclass(frozen=True, slots=True)
class ErleMeter:
    """The last 2 s of frames in which the assistant was loud.

    recent_db: how much quieter each became, oldest first. n_far: such frames since the start.
    """

    recent_db: tuple[float, ...] = ()
    n_far: int = 0

    @property
    def erle_db(self) -> float | None:
        """Median over the last 2 s of the assistant's speech, None before 0.4 s of it.

        A median, because frames in which the user talks too say nothing about the echo; where the
        user talks most of the time it sinks, and should not be read.
        """
        if len(self.recent_db) < _LEAST_FRAMES:
            return None
        return statistics.median(self.recent_db)

    @property
    def is_low(self) -> bool:
        """The echo is not yet removed well enough to trust what sounds like a talker."""
        erle_db = self.erle_db
        return erle_db is None or erle_db < _CONVERGED_DB


def meter_step(meter: ErleMeter, *, near: Pcm, far: Pcm, cancelled: Pcm) -> ErleMeter:
    """Fold in one frame: microphone, what was played, and what the canceller made of it."""
    if _rms(far) < _FAR_FLOOR:
        return meter
    gone_db = 20 * float(np.log10((_rms(near) + _TINY) / (_rms(cancelled) + _TINY)))
    return replace(
        meter,
        recent_db=(*meter.recent_db, gone_db)[-_KEPT_FRAMES:],
        n_far=meter.n_far + 1,
    )


def _rms(pcm: Pcm) -> float:
    return float(np.sqrt(np.mean(np.square(pcm))))
