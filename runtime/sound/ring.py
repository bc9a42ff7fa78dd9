"""SampleRing: the only thing that the sound card's callback and the loop's thread share."""

from __future__ import annotations

import numpy as np

from edge.frame import Pcm


class SampleRing:
    """A bounded queue of float32 samples between one producer thread and one consumer thread.

    Neither side ever waits, locks or allocates sample memory: the buffer is made once, push and pop
    copy at most two slices. (Each call makes a few small Python objects, which come from the
    interpreter's free lists.)

    Why this is safe without a lock: every number has one writer. Only the producer stores
    `_n_pushed` and `_n_void`, only the consumer stores `_n_popped`; all three only grow and are
    reduced modulo the capacity on use. The producer copies samples first and counts them after;
    the consumer reads the count first and copies after, so a number seen late only makes the ring
    look fuller to the producer or emptier to the consumer than it is. With the GIL the two orders
    hold as written. On free-threaded builds it is assumed that another thread sees a store to an
    attribute no earlier than what was written before it: true of CPython's own implementation, in
    which such stores release and such loads acquire.

    What is thrown away when it is full: the producer may not touch what the consumer may be
    reading, so a push that does not fit is refused whole (one overrun) and what is queued stays.
    Throwing away the *oldest* is a decision of the thread that runs the loop, never of the
    callback: `drop` where that thread consumes (microphone), `void_oldest` where it produces
    (speaker).

    capacity_samples: > 0. n_overruns: refused pushes. n_underruns: pops that had to add zeros.
    """

    def __init__(self, capacity_samples: int) -> None:
        if capacity_samples <= 0:
            raise ValueError(f"a ring needs a capacity, got {capacity_samples}")
        self._buffer: Pcm = np.zeros(capacity_samples, np.float32)
        self._capacity = capacity_samples
        self._n_pushed = 0
        self._n_void = 0  # samples before this one shall not be heard any more
        self._n_popped = 0
        self.n_overruns = 0
        self.n_underruns = 0

    @property
    def n_pending(self) -> int:
        """Samples waiting now."""
        return max(0, self._n_pushed - max(self._n_popped, self._n_void))

    def push(self, samples: Pcm) -> bool:
        """Producer: queue float32 (n,) whole, or refuse it whole and count an overrun."""
        n = len(samples)
        if self._n_pushed + n - self._n_popped > self._capacity:
            self.n_overruns += 1
            return False
        start = self._n_pushed % self._capacity
        n_first = min(n, self._capacity - start)
        self._buffer[start : start + n_first] = samples[:n_first]
        self._buffer[: n - n_first] = samples[n_first:]
        self._n_pushed += n
        return True

    def void_oldest(self, n_samples: int) -> int:
        """Producer: let the oldest n_samples not be played; returns how many were still waiting.

        They leave when the consumer next pops; until then they still occupy the buffer.
        """
        begin = max(self._n_popped, self._n_void)
        n = max(0, min(n_samples, self._n_pushed - begin))
        self._n_void = begin + n
        return n

    def pop_into(self, out: Pcm) -> int:
        """Consumer: fill float32 (n,) from the ring, the rest with zeros (one underrun).

        Returns the number of samples that came from the ring.
        """
        begin = max(self._n_popped, self._n_void)
        n = min(len(out), max(0, self._n_pushed - begin))
        start = begin % self._capacity
        n_first = min(n, self._capacity - start)
        out[:n_first] = self._buffer[start : start + n_first]
        out[n_first:n] = self._buffer[: n - n_first]
        self._n_popped = begin + n
        if n < len(out):
            out[n:] = 0.0
            self.n_underruns += 1
        return n

    def drop(self, n_samples: int) -> int:
        """Consumer: throw the oldest n_samples away; returns how many there were."""
        begin = max(self._n_popped, self._n_void)
        n = max(0, min(n_samples, self._n_pushed - begin))
        self._n_popped = begin + n
        return n

    def clear(self) -> int:
        """Consumer: throw everything away; returns how many samples that was."""
        return self.drop(self.n_pending)
