"""RecordingPort: any port, with everything that is heard and said written to a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge.frame import Pcm, silence
from edge.wav import WavWriter
from runtime.sound.around import AroundPort
from runtime.sound.port import AudioPort


class RecordingPort(AroundPort):
    """Writes the replies (stereo: the microphone left, replies right) of another port to WAV.

    Both share one clock, and the reply to a frame stands where that frame ends, for nobody can hear
    it earlier: the recording is honest about latency to the sample. It is put in place only when
    the conversation was completed.
    """

    def __init__(self, port: AudioPort, output: Path, *, stereo: bool = False) -> None:
        super().__init__(port)
        self._output, self._stereo = output, stereo
        self._writer: WavWriter | None = None
        self._said: Pcm = silence()

    def open(self) -> None:
        self._writer = WavWriter(self._output, n_channels=2 if self._stereo else 1)
        super().open()

    def read(self, *, engine_idle: bool) -> Pcm | None:
        pcm = super().read(engine_idle=engine_idle)
        if pcm is not None and self._writer is not None:
            said = self._said
            self._writer.write(np.stack([pcm, said], axis=1) if self._stereo else said)
        return pcm

    def write(self, pcm: Pcm) -> None:
        self._said = pcm
        super().write(pcm)

    def close(self, *, completed: bool) -> None:
        super().close(completed=completed)
        writer, self._writer = self._writer, None
        if writer is not None:
            if completed:
                writer.close()
            else:
                writer.abort()
