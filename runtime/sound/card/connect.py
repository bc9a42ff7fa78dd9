"""Opening a sound device: choose it by name, find a format it accepts, see that sound flows."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from edge.errors import DeviceError
from edge.frame import FRAME_MS, SAMPLE_RATE_HZ
from runtime.clock import Clock
from runtime.sound.card.link import Link, OneStream
from runtime.sound.card.portaudio import BLOCK_MS, Backend, Stream, StreamSpec
from runtime.sound.device_info import DeviceInfo, Direction, default_device, match

log = logging.getLogger(__name__)

# A stream counts as open when it has delivered a frame's worth of blocks and one more: some sound
# servers accept a stream, call once, and then think about it for seconds.
_PROOF_BLOCKS = FRAME_MS // BLOCK_MS + 1
_PROOF_WAIT_NS = 4_000_000_000
_PROOF_POLL_NS = 5_000_000
# Tried in this order, after our own rate and the device's default.
_COMMON_RATES_HZ = (48_000, 44_100)


@dataclass(frozen=True, slots=True)
class Wish:
    """Which devices, by name; None is the system's default."""

    input: str | None = None
    output: str | None = None


def connect(
    backend: Backend, wish: Wish, clock: Clock, *, afresh: bool, may_fall_back: bool
) -> Link:
    """Open microphone and speaker and wait until sound flows, 4 s at most each.

    One stream where one device does both on one clock; else two.
    afresh: look for devices again first; no other stream may be open in this process.
    may_fall_back: a device that is not there is replaced by the default, said in the log.
    Raises DeviceError, MissingPackageError.
    """
    devices = backend.devices(afresh=afresh)
    source = _choose(devices, wish.input, "input", may_fall_back=may_fall_back)
    sink = _choose(devices, wish.output, "output", may_fall_back=may_fall_back)
    if source.label == sink.label and has_one_clock(source):
        try:
            return _open_duplex(backend, source, sink, clock)
        except DeviceError as error:
            log.info("%s does not do both directions in one stream (%s)", source.name, error)
    return _open_two(backend, source, sink, clock)


def _choose(
    devices: Sequence[DeviceInfo], wanted: str | None, direction: Direction, *, may_fall_back: bool
) -> DeviceInfo:
    if wanted is None:
        return default_device(devices, direction)
    try:
        return match(devices, wanted, direction)
    except DeviceError as error:
        if not may_fall_back:
            raise
        chosen = default_device(devices, direction)
        log.warning("%s; using %s instead", error, chosen.name)
        return chosen


def has_one_clock(device: DeviceInfo) -> bool:
    """Whether its two directions are known to run on one clock, as those of one card do.

    ALSA's "default", "pulse" and the like lead to a sound server, which may take the microphone
    from one card and the speaker from another, and has two queues even when it does not. One
    PortAudio stream over both was measured to slip by a few samples every other second, uncounted;
    two streams were not.
    """
    return device.host_api != "ALSA" or "(hw:" in device.name


def specs(source: DeviceInfo | None, sink: DeviceInfo | None) -> Iterator[StreamSpec]:
    """Give every format worth trying, the one that needs no conversion first.

    Rates: 24 kHz, the device's own, the common ones. Channels: one, two, all; some interfaces
    refuse fewer than they have.
    """
    device = source or sink
    if device is None:
        raise ValueError("a stream needs a device")
    n_inputs = source.n_inputs if source else 0
    n_outputs = sink.n_outputs if sink else 0
    rates_hz = dict.fromkeys((SAMPLE_RATE_HZ, device.default_rate_hz, *_COMMON_RATES_HZ))
    channels = dict.fromkeys(
        (min(n, n_inputs), min(n, n_outputs)) for n in (1, 2, max(n_inputs, n_outputs))
    )
    base = StreamSpec(source, sink, 0, 0, 0)
    for rate_hz in rates_hz:
        for n_in, n_out in channels:
            yield replace(base, rate_hz=rate_hz, n_inputs=n_in, n_outputs=n_out)


def _open_duplex(backend: Backend, source: DeviceInfo, sink: DeviceInfo, clock: Clock) -> Link:
    part, stream = _first_that_runs(backend, specs(source, sink), clock)
    if part.input is None or part.output is None:
        raise DeviceError(f"{source.name} gave only one direction; name two devices instead")
    return Link(source, sink, part.input, part.output, (part,), (stream,))


def _open_two(backend: Backend, source: DeviceInfo, sink: DeviceInfo, clock: Clock) -> Link:
    speaker, playing = _first_that_runs(backend, specs(None, sink), clock)
    try:
        microphone, hearing = _first_that_runs(backend, specs(source, None), clock)
    except DeviceError:
        playing.close()
        raise
    assert microphone.input is not None
    assert speaker.output is not None  # specs() gave each stream its one direction
    parts, streams = (microphone, speaker), (hearing, playing)
    return Link(source, sink, microphone.input, speaker.output, parts, streams)


def _first_that_runs(
    backend: Backend, candidates: Iterator[StreamSpec], clock: Clock
) -> tuple[OneStream, Stream]:
    """Start the first of these formats that the device takes. Raises DeviceError: the first no."""
    refusal: DeviceError | None = None
    for spec in candidates:
        part = OneStream(spec, clock.now_ns)
        try:
            stream = backend.open_stream(spec, part.on_block, part.on_finished)
        except DeviceError as error:
            refusal = refusal or error
            continue
        try:
            stream.start()
            _await_sound(part, spec, clock)
        except DeviceError:
            stream.close()
            raise
        return part, stream
    raise refusal or DeviceError("the sound device offers no format to try")


def _await_sound(part: OneStream, spec: StreamSpec, clock: Clock) -> None:
    """Return when blocks flow. Raises DeviceError if they do not."""
    give_up_ns = clock.now_ns() + _PROOF_WAIT_NS
    while part.n_blocks < _PROOF_BLOCKS:
        now_ns = clock.now_ns()
        if part.finished or now_ns >= give_up_ns:
            device = spec.source or spec.sink
            raise DeviceError(
                f"{device.name if device else 'the device'} was opened but no sound flows; "
                "choose another one: `edge devices` lists them"
            )
        clock.sleep_until_ns(now_ns + _PROOF_POLL_NS)
