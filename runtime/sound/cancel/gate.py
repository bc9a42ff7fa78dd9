"""The last of the canceller: what is far below the echo that was removed cannot be a talker."""

from __future__ import annotations

import numpy as np

from edge.frame import FRAME_SAMPLES, Pcm

_BLOCK = 240  # 10 ms
# A talker this far below the echo would not be understood anyway; residues of echo are lower.
_BELOW = 10 ** (-16 / 10)
_SHUT = 0.05
# How fast the memory of a loud echo fades, in power: 31 dB a second, slower than most rooms.
_FADE = 0.93
# An echo weaker than this (-70 dBFS) leaves nothing that could be taken for speech.
_LEAST_POWER = 1e-7
_OPENING = 0.5  # of the way to open, in each block


class ResidueGate:
    """Closes over blocks of 10 ms that are 16 dB below the echo just taken out of them.

    lag: samples by which process()'s pcm is behind its `removed`. Owns its state.
    """

    def __init__(self, *, lag: int) -> None:
        self._waiting = np.zeros(lag, np.float32)
        self._echo_power = 0.0
        self._gain = 1.0

    def process(self, pcm: Pcm, removed: Pcm) -> Pcm:
        """Weigh one cancelled frame against the echo removed from it; float32 (1920,) each."""
        late = np.concatenate([self._waiting, removed])
        self._waiting = late[FRAME_SAMPLES:]
        echo_powers = np.mean(np.square(late[:FRAME_SAMPLES].reshape(-1, _BLOCK)), axis=1)
        powers = np.mean(np.square(pcm.reshape(-1, _BLOCK)), axis=1)
        gains = [self._gain]
        for power, echo_power in zip(powers.tolist(), echo_powers.tolist(), strict=True):
            self._echo_power = max(echo_power, self._echo_power * _FADE)
            is_residue = self._echo_power > _LEAST_POWER and power < _BELOW * self._echo_power
            wanted = _SHUT if is_residue else 1.0
            step = 1.0 if wanted < self._gain else _OPENING
            self._gain += step * (wanted - self._gain)
            gains.append(self._gain)
        at = np.arange(FRAME_SAMPLES) / _BLOCK
        out: Pcm = (pcm * np.interp(at, np.arange(len(gains)), gains)).astype(np.float32)
        return out
