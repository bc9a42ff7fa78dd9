"""PortAudio through sounddevice, and the contract by which the rest sees it. Only this file knows
the library; tests put a card of their own in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from edge.errors import DeviceError, MissingPackageError
from edge.frame import Pcm
from runtime.sound.device_info import DeviceInfo

# A quarter of a frame: an exact divisor, and short enough to add little latency.
BLOCK_MS = 20
# Asks for one block more than the least that "low" gives: with all cores busy the card then ran dry
# a quarter as often, for 20 ms. Yet more makes callbacks come in pairs.
_OUTPUT_LATENCY_S = 0.06


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """What to open: one device for both directions, or one direction with the other None.

    n_inputs, n_outputs: channels to open, 0 where there is no device.
    """

    source: DeviceInfo | None
    sink: DeviceInfo | None
    rate_hz: int
    n_inputs: int
    n_outputs: int

    @property
    def block_samples(self) -> int:
        """Samples per channel in one callback: 20 ms."""
        return self.rate_hz * BLOCK_MS // 1_000


class OnBlock(Protocol):
    """Called by the card for each block, on a thread of its own.

    It may copy and count; it must not wait, lock, log, allocate or raise. It gets plain arguments
    because an object for each block would be one more allocation.
    """

    def __call__(
        self,
        heard: Pcm,
        to_play: Pcm,
        captured_s: float,
        played_s: float,
        lost_input: bool,
        starved_output: bool,
        /,
    ) -> None:
        """Take one block and fill one.

        heard, to_play: float32 (n * channels,) interleaved, the card's own memory, valid during the
        call; empty in a direction that is not open. captured_s: how long ago the first sample of
        heard was captured. played_s: when, from now, the first sample of to_play will sound.
        lost_input, starved_output: the card's own flags.
        """


class Stream(Protocol):
    """One open stream."""

    input_latency_s: float
    output_latency_s: float

    def start(self) -> None:
        """Let callbacks come. Raises DeviceError."""

    def close(self) -> None:
        """Stop at once and release the device; safe to call twice."""


class Backend(Protocol):
    """A sound library."""

    def devices(self, *, afresh: bool = False) -> list[DeviceInfo]:
        """List what is there; afresh looks again, which no open stream of this process survives."""

    def open_stream(
        self, spec: StreamSpec, on_block: OnBlock, on_finished: Callable[[], None]
    ) -> Stream:
        """Open, not yet running. Raises DeviceError if the device refuses the rate or channels."""


class PortAudio:
    """The real one. Raises MissingPackageError or DeviceError if it cannot be loaded."""

    def __init__(self) -> None:
        self._sd = _load()

    def devices(self, *, afresh: bool = False) -> list[DeviceInfo]:
        if afresh:
            self._look_again()
        host_apis: Sequence[dict[str, Any]] = self._sd.query_hostapis()
        default_in, default_out = self._defaults(host_apis)
        return [
            DeviceInfo(
                name=entry["name"],
                host_api=host_apis[entry["hostapi"]]["name"],
                n_inputs=entry["max_input_channels"],
                n_outputs=entry["max_output_channels"],
                default_rate_hz=round(entry["default_samplerate"]),
                is_default_input=index == default_in,
                is_default_output=index == default_out,
            )
            for index, entry in enumerate(self._sd.query_devices())
        ]

    def open_stream(
        self, spec: StreamSpec, on_block: OnBlock, on_finished: Callable[[], None]
    ) -> Stream:
        return _PortAudioStream(
            self._sd, spec, self._index(spec.source), self._index(spec.sink), on_block, on_finished
        )

    def _look_again(self) -> None:
        """Initialise PortAudio anew; sounddevice has no public name for the only way there is."""
        sd = self._sd
        try:
            if sd._initialized:  # noqa: SLF001
                sd._terminate()  # noqa: SLF001
            sd._initialize()  # noqa: SLF001
        except sd.PortAudioError as error:
            raise DeviceError(
                f"the sound system does not answer ({error}); `edge doctor` tells more"
            ) from error

    def _defaults(self, host_apis: Sequence[dict[str, Any]]) -> tuple[int, int]:
        """Give the numbers of the default devices; -1 for none."""
        chosen = [int(index) for index in self._sd.default.device]
        first: dict[str, Any] = next(
            (api for api in host_apis if api["devices"]),
            {"default_input_device": -1, "default_output_device": -1},
        )
        return (
            chosen[0] if chosen[0] >= 0 else first["default_input_device"],
            chosen[1] if chosen[1] >= 0 else first["default_output_device"],
        )

    def _index(self, device: DeviceInfo | None) -> int | None:
        """Translate to a number that holds until PortAudio is initialised again."""
        if device is None:
            return None
        for index, now in enumerate(self.devices()):
            if now.label == device.label:
                return index
        raise DeviceError(f"{device.name} is not there any more; `edge devices` lists what is")


class _PortAudioStream:
    """One sounddevice stream of float32 blocks."""

    def __init__(
        self,
        sd: Any,
        spec: StreamSpec,
        source: int | None,
        sink: int | None,
        on_block: OnBlock,
        on_finished: Callable[[], None],
    ) -> None:
        self._error = sd.PortAudioError
        self._closed = False
        self._what = " and ".join({d.name: "" for d in (spec.source, spec.sink) if d is not None})
        common = {
            "samplerate": spec.rate_hz,
            "blocksize": spec.block_samples,
            "dtype": "float32",
            "latency": ("low", _OUTPUT_LATENCY_S),
            "finished_callback": on_finished,
        }
        nothing: Pcm = np.zeros(0, np.float32)

        # sounddevice calls these on PortAudio's thread; views and copies only, nothing that waits.
        def both(heard: Any, to_play: Any, _n: int, time: Any, status: Any) -> None:
            on_block(
                np.frombuffer(heard, np.float32),
                np.frombuffer(to_play, np.float32),
                time.currentTime - time.inputBufferAdcTime,
                time.outputBufferDacTime - time.currentTime,
                status.input_overflow,
                status.output_underflow,
            )

        def hear(heard: Any, n: int, time: Any, status: Any) -> None:
            both(heard, nothing, n, time, status)

        def play(to_play: Any, n: int, time: Any, status: Any) -> None:
            both(nothing, to_play, n, time, status)

        try:
            if source is not None and sink is not None:
                self._stream = sd.RawStream(
                    device=(source, sink),
                    channels=(spec.n_inputs, spec.n_outputs),
                    callback=both,
                    **common,
                )
            elif source is not None:
                self._stream = sd.RawInputStream(
                    device=source, channels=spec.n_inputs, callback=hear, **common
                )
            else:
                self._stream = sd.RawOutputStream(
                    device=sink, channels=spec.n_outputs, callback=play, **common
                )
        except self._error as error:
            raise self._refusal(error) from error
        latency = self._stream.latency
        pair = latency if isinstance(latency, tuple) else (latency, latency)
        self.input_latency_s, self.output_latency_s = pair

    def start(self) -> None:
        try:
            self._stream.start()
        except self._error as error:
            raise self._refusal(error) from error

    def close(self) -> None:
        # Twice would hand PortAudio a pointer it has freed. Neither call minds a stream that died.
        if not self._closed:
            self._closed = True
            self._stream.abort()
            self._stream.close()

    def _refusal(self, error: Exception) -> DeviceError:
        return DeviceError(
            f"{self._what} cannot be opened: {error}; "
            "is another program using it? `edge devices` lists what else there is"
        )


def _load() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise MissingPackageError("sounddevice", extra="audio", needed_for="live sound") from error
    except OSError as error:
        raise DeviceError(
            "the PortAudio library is not installed; on Debian, Ubuntu and Raspberry Pi OS: "
            "sudo apt install libportaudio2"
        ) from error
    return sounddevice
