"""ClearPort: any port, with what the microphone gives made fit to be heard.

    port.read -> repair -> echo canceller -> automatic gain, band -> engine
    port.write ------------------^

It stands between the loop and the sound, so every engine hears the same clean frames. Each part can
be left out; sound without faults at a usual level passes untouched, to the bit, while nothing is
played.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm, silence
from runtime.sound.around import AroundPort
from runtime.sound.conditioning import adapt, condition_start, findings, repair
from runtime.sound.echo import EchoCanceller
from runtime.sound.port import AudioPort

_FADE_SAMPLES = SAMPLE_RATE_HZ // 100


@dataclass(frozen=True, slots=True)
class EchoFacts:
    """What the canceller knows now; None is "not known".

    erle_db: echo taken away. delay_ms: its way. converged: the canceller has proved itself.
    warming_up: it has not yet, so that nothing is listened to while echo is due.
    """

    erle_db: float | None
    delay_ms: float | None
    converged: bool
    warming_up: bool


@dataclass(frozen=True, slots=True)
class MicrophoneFacts:
    """What is known of the microphone now.

    gain_db: automatic gain. band_hz: 4000 (telephone), 8000 or 12000, None before 1.6 s of sound.
    findings: what a person should know, a short name to one line with a way out.
    """

    gain_db: float = 0.0
    band_hz: int | None = None
    findings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Clarity:
    """How well the user can be heard now. echo: None where nothing cancels it."""

    echo: EchoFacts | None = None
    microphone: MicrophoneFacts = field(default_factory=MicrophoneFacts)


class ClearPort(AroundPort):
    """Repairs, cancels echo and adapts what another port hears; one conversation's."""

    def __init__(
        self,
        port: AudioPort,
        canceller: EchoCanceller | None = None,
        *,
        mend: bool = True,
        auto_gain: bool = True,
    ) -> None:
        """canceller: None where the assistant cannot be heard, as in a file. mend: conceal gaps,
        take out a constant part. auto_gain: bring a quiet or a loud talker to a usual level.
        """
        super().__init__(port)
        self._canceller = canceller
        self._mend, self._auto_gain = mend, auto_gain
        self._state = condition_start()
        self._played: Pcm = silence()
        self._muted = False

    @property
    def clarity(self) -> Clarity:
        """How well the user can be heard, for people and for the latency line."""
        state, found = self._state, self._canceller
        echo = None
        if found is not None:
            echo = EchoFacts(found.erle_db, found.delay_ms, found.converged, found.warming_up)
        return Clarity(echo, MicrophoneFacts(state.gain_db, state.band_hz, dict(findings(state))))

    def read(self, *, engine_idle: bool) -> Pcm | None:
        """The next frame, made fit to be heard; float32 (1920,), None at the end."""
        near = super().read(engine_idle=engine_idle)
        if near is None:
            return None
        if self._mend:
            self._state, near = repair(self._state, near)
        playing = False
        if self._canceller is not None:
            self._canceller.set_delay_ms(self._port.delay_ms())
            played, self._played = self._played, silence()
            near = self._canceller.process(near, played)
            near = self._muted_while_warming(near, self._canceller.warming_up)
            playing = not self._canceller.passing
        if self._auto_gain:
            self._state, near = adapt(self._state, near, playing=playing)
        return near

    def write(self, pcm: Pcm) -> None:
        self._played = pcm
        super().write(pcm)

    def flush(self) -> int:
        n_samples = super().flush()
        if self._canceller is not None:
            self._canceller.forget(n_samples)
        return n_samples

    def _muted_while_warming(self, pcm: Pcm, warming_up: bool) -> Pcm:
        """Silence while the canceller still learns: it would take the echo for a talker."""
        was, self._muted = self._muted, warming_up
        if not was and not warming_up:
            return pcm
        gain = np.full(FRAME_SAMPLES, 0.0 if warming_up else 1.0, np.float32)
        if was != warming_up:
            gain[:_FADE_SAMPLES] = np.linspace(float(not was), float(was), _FADE_SAMPLES)
        return pcm * gain
