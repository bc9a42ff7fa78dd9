"""Resampler: from one sample rate to another, piece by piece, as if it were done in one piece."""

from __future__ import annotations

import numpy as np

from edge.errors import ShapeError, UsageError
from edge.frame import Pcm

# Outside this range a rate is a broken header, not a recording.
MIN_RATE_HZ = 1_000
MAX_RATE_HZ = 1_000_000


class Resampler:
    """One stream's conversion between two rates, in soxr's high quality, with carried state.

    The pieces that come out, joined, are to the bit what one push of everything gives, however the
    input was split; n samples become round(n * dst_hz / src_hz). The filter looks ahead, so output
    trails input by 10 to 40 ms at the rates of speech; `last=True` flushes it. Equal rates pass
    through without delay.
    """

    def __init__(self, src_hz: int, dst_hz: int) -> None:
        for rate_hz in (src_hz, dst_hz):
            if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
                raise UsageError(
                    f"a sample rate of {rate_hz} Hz cannot be converted; "
                    f"it must be {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz"
                )
        self.src_hz, self.dst_hz = src_hz, dst_hz
        self._ended = False
        self._stream = None
        if src_hz != dst_hz:
            import soxr

            self._stream = soxr.ResampleStream(src_hz, dst_hz, 1, dtype="float32", quality="HQ")

    def push(self, pcm: Pcm, last: bool = False) -> Pcm:
        """Take float32 (n,) at src_hz, any n >= 0; give the float32 (m,) at dst_hz now complete.

        last: nothing follows, so give what is still held back; the stream is spent afterwards.
        Raises ShapeError for another shape or dtype, UsageError for a push after the last.
        """
        if pcm.ndim != 1 or pcm.dtype != np.float32:
            raise ShapeError("Resampler.push", got=f"{pcm.dtype} {pcm.shape}", want="float32 (n,)")
        if self._ended:
            raise UsageError("this resampler has had its last piece; make a new one")
        self._ended = last
        if self._stream is None:
            return pcm
        out: Pcm = self._stream.resample_chunk(np.ascontiguousarray(pcm), last=last)
        return out
