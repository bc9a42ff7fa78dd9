"""One open sound device: the rings its callback fills and empties, and the way from its rate and
channels to ours. Everything but the two callback methods runs on the loop's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge.frame import FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm
from edge.resample import Resampler
from runtime.sound.card.portaudio import BLOCK_MS, Stream, StreamSpec
from runtime.sound.device_info import DeviceInfo
from runtime.sound.ring import SampleRing

# A ring holds this much. What is older than a few frames is never used, but a loop that stalls for
# a second should find the newest sound, not a gap.
RING_S = 2
# A card's time stamps beyond this are no latency but a host API that does not fill them in.
_LONGEST_LAG_S = 2.0
_LAG_SMOOTHING = 0.1


class InputSide:
    """Microphone: blocks of the card in, frames of 24 kHz mono out.

    rate_hz, n_channels: as the device was opened.
    """

    def __init__(self, rate_hz: int, n_channels: int) -> None:
        self._n_channels = n_channels
        self._ring = SampleRing(RING_S * rate_hz * n_channels)
        self._ready = SampleRing((RING_S + 1) * SAMPLE_RATE_HZ)
        self._chunk: Pcm = np.zeros(rate_hz * FRAME_MS // 1_000 * n_channels, np.float32)
        self._convert = Resampler(rate_hz, SAMPLE_RATE_HZ).push
        self._n_lost = 0
        self._newest_lag_s = -1.0
        self.lag_s = 0.0

    def take_block(self, heard: Pcm, captured_s: float, lost: bool) -> None:
        """Callback: copy one block of interleaved samples into the ring."""
        self._ring.push(heard)
        self._newest_lag_s = captured_s
        self._n_lost += lost

    @property
    def n_overruns(self) -> int:
        """Blocks refused by the full ring or lost by the card itself."""
        return self._ring.n_overruns + self._n_lost

    def pull(self) -> int:
        """Bring over what the card has delivered; returns how many 24 kHz samples are ready."""
        self.lag_s = _smooth(self.lag_s, self._newest_lag_s)
        while n := min(self._ring.n_pending, len(self._chunk)):
            chunk = self._chunk[:n]
            self._ring.pop_into(chunk)
            self._ready.push(self._convert(downmix(chunk, self._n_channels)))
        return self._ready.n_pending

    @property
    def n_ready(self) -> int:
        """24 kHz samples that the last pull() left."""
        return self._ready.n_pending

    def drop(self, n_samples: int) -> None:
        """Throw away the oldest n_samples of 24 kHz sound."""
        self._ready.drop(n_samples)

    def clear(self) -> None:
        """Throw away everything that was heard so far."""
        self.pull()
        self._ready.clear()

    def take_frame(self) -> Pcm:
        """Give the oldest frame, float32 (1920,)."""
        pcm: Pcm = np.empty(FRAME_SAMPLES, np.float32)
        self._ready.pop_into(pcm)
        return pcm


class OutputSide:
    """Speaker: 24 kHz mono in, blocks of the card out.

    rate_hz, n_channels: as the device was opened.
    """

    def __init__(self, rate_hz: int, n_channels: int) -> None:
        self._rate_hz, self._n_channels = rate_hz, n_channels
        self._ring = SampleRing(RING_S * rate_hz * n_channels)
        self._convert = Resampler(SAMPLE_RATE_HZ, rate_hz).push
        self._n_starved = 0
        self._newest_lag_s = -1.0
        self.lag_s = 0.0

    def give_block(self, to_play: Pcm, played_s: float, starved: bool) -> None:
        """Callback: fill one block of interleaved samples, with zeros where nothing is queued."""
        self._ring.pop_into(to_play)
        self._newest_lag_s = played_s
        self._n_starved += starved

    @property
    def n_underruns(self) -> int:
        """Blocks that the ring or the card itself had to fill with silence."""
        return self._ring.n_underruns + self._n_starved

    @property
    def n_pending(self) -> int:
        """Queued and not yet with the card, in 24 kHz samples."""
        return self._ring.n_pending // self._n_channels * SAMPLE_RATE_HZ // self._rate_hz

    def push(self, pcm: Pcm) -> None:
        """Queue 24 kHz mono samples, float32 (n,); dropped if the card has stopped taking any."""
        self.lag_s = _smooth(self.lag_s, self._newest_lag_s)
        self._ring.push(spread(self._convert(pcm), self._n_channels))

    def push_silence(self, n_samples: int) -> None:
        """Queue n_samples of 24 kHz silence."""
        self.push(np.zeros(n_samples, np.float32))

    def void_oldest(self, n_samples: int) -> int:
        """Take the oldest n_samples (24 kHz) back; returns how many there were."""
        n = n_samples * self._rate_hz // SAMPLE_RATE_HZ * self._n_channels
        n_void = self._ring.void_oldest(n)
        return n_void // self._n_channels * SAMPLE_RATE_HZ // self._rate_hz


class OneStream:
    """A stream with what its callback touches: one side, or both where one device does both."""

    def __init__(self, spec: StreamSpec, now_ns: Callable[[], int]) -> None:
        self.input = InputSide(spec.rate_hz, spec.n_inputs) if spec.source else None
        self.output = OutputSide(spec.rate_hz, spec.n_outputs) if spec.sink else None
        self.n_blocks = 0
        self.last_block_ns = now_ns()
        self.finished = False
        self._now_ns = now_ns

    def on_finished(self) -> None:
        """Callback: the stream has ended by itself."""
        self.finished = True

    def on_block(
        self,
        heard: Pcm,
        to_play: Pcm,
        captured_s: float,
        played_s: float,
        lost_input: bool,
        starved_output: bool,
        /,
    ) -> None:
        """Callback: copy one block each way; see OnBlock."""
        if self.output is not None:
            self.output.give_block(to_play, played_s, starved_output)
        if self.input is not None:
            self.input.take_block(heard, captured_s, lost_input)
        self.last_block_ns = self._now_ns()
        self.n_blocks += 1


@dataclass(frozen=True, slots=True)
class Link:
    """The way in and the way out, and the one or two streams that drive them.

    parts, streams: one for both directions, or the microphone's and then the speaker's.
    """

    source: DeviceInfo
    sink: DeviceInfo
    input: InputSide
    output: OutputSide
    parts: tuple[OneStream, ...]
    streams: tuple[Stream, ...]

    @property
    def finished(self) -> bool:
        """Whether either stream has ended by itself."""
        return any(part.finished for part in self.parts)

    @property
    def last_block_ns(self) -> int:
        """When the stream that has been silent longest last called."""
        return min(part.last_block_ns for part in self.parts)

    @property
    def last_heard_ns(self) -> int:
        """When the microphone's stream last called."""
        return self.parts[0].last_block_ns

    @property
    def input_lag_s(self) -> float:
        """How old a block's first sample is when the callback gets it."""
        return self.input.lag_s or self.streams[0].input_latency_s + BLOCK_MS / 1_000

    @property
    def output_lag_s(self) -> float:
        """How long until a block's first sample sounds after the callback has filled it."""
        return self.output.lag_s or self.streams[-1].output_latency_s

    def close(self) -> None:
        """Stop and release both directions; safe to call twice."""
        for stream in self.streams:
            stream.close()


def downmix(interleaved: Pcm, n_channels: int) -> Pcm:
    """Mix float32 (n * n_channels,) to mono (n,).

    Stereo is averaged. Of more channels the first is taken: microphone arrays put their processed
    signal there and raw capsules, or even the speaker's own signal, behind it.
    """
    if n_channels == 1:
        return interleaved
    channels = interleaved.reshape(-1, n_channels)
    if n_channels == 2:
        return np.asarray((channels[:, 0] + channels[:, 1]) * np.float32(0.5), np.float32)
    return np.ascontiguousarray(channels[:, 0])


def spread(mono: Pcm, n_channels: int) -> Pcm:
    """Put mono (n,) on the first two of n_channels, silence on the others; (n * n_channels,)."""
    if n_channels == 1:
        return mono
    channels: Pcm = np.zeros((len(mono), n_channels), np.float32)
    channels[:, :2] = mono[:, None]
    return channels.reshape(-1)


def _smooth(lag_s: float, newest_s: float) -> float:
    """Follow the card's time stamps; one that makes no sense changes nothing."""
    if not 0.0 < newest_s < _LONGEST_LAG_S:
        return lag_s
    return newest_s if lag_s == 0.0 else lag_s + _LAG_SMOOTHING * (newest_s - lag_s)
