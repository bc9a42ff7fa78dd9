from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edge.errors import ConfigError, DeviceError
from edge.frame import FRAME_NS, FRAME_SAMPLES, Pcm, silence
from runtime.sound.card.connect import Wish, specs
from runtime.sound.device import DevicePort, DeviceSettings
from runtime.sound.device_info import DeviceInfo
from tests.runtime.fake_card import BUILT_IN, HEADSET, WEBCAM, FakeCard, quiet

ZERO = (0, 0, 0, 0)


def at_once(work: Callable[[], None]) -> None:
    work()


def opened(card: FakeCard, settings: DeviceSettings | None = None) -> DevicePort:
    port = DevicePort(settings or DeviceSettings(), card.clock, backend=card, start_helper=at_once)
    port.open()
    return port


def read(port: DevicePort) -> Pcm:
    pcm = port.read(engine_idle=False)
    assert pcm is not None
    return pcm


def echo(port: DevicePort, n_frames: int) -> Pcm:
    """Send every frame back; returns what was heard."""
    heard = [silence()]
    for _ in range(n_frames):
        heard.append(read(port))
        port.write(heard[-1])
    return np.concatenate(heard[1:])


def faults(port: DevicePort) -> tuple[int, int, int, int]:
    now = port.counters()
    return now.n_dropped_in, now.n_dropped_out, now.n_overruns, now.n_underruns


def test_what_is_heard_is_played_whole_and_in_order() -> None:
    card = FakeCard()
    port = opened(card)
    heard = echo(port, 20)
    card.clock.pass_ms(100)
    played = card.streams[0].sound()
    begin = int(np.flatnonzero(played)[0])
    n = 19 * FRAME_SAMPLES
    assert np.array_equal(played[begin : begin + n], heard[:n])
    assert faults(port) == ZERO


def test_a_frame_is_read_within_a_block_of_its_last_sample_and_80_ms_after_the_one_before() -> None:
    card = FakeCard()
    port = opened(card)
    read(port)
    for _ in range(10):
        before_ns = card.clock.now_ns()
        port.write(read(port))
        assert abs(card.clock.now_ns() - before_ns - FRAME_NS) <= 2_000_000


@pytest.mark.parametrize("step_ms", [0, 15, 40, 79])
def test_a_step_within_its_frame_is_never_heard(step_ms: int) -> None:
    card = FakeCard()
    port = opened(card)
    for _ in range(30):
        pcm = read(port)
        card.clock.pass_ms(step_ms)
        port.write(pcm)
    assert faults(port) == ZERO


def test_what_happens_between_open_and_the_first_read_is_not_counted() -> None:
    card = FakeCard()
    port = opened(card)
    card.clock.pass_ms(5_000)
    echo(port, 5)
    assert faults(port) == ZERO


def test_a_late_loop_loses_the_oldest_frames_and_keeps_the_newest() -> None:
    card = FakeCard()
    port = opened(card, DeviceSettings(max_behind_frames=3))
    last = echo(port, 5)[-1]
    card.clock.pass_ms(10 * 80)
    heard = np.concatenate([read(port) for _ in range(3)])
    assert port.counters().n_dropped_in == 7
    gap = round(float(heard[0] - last) * 24_000) % 24_000
    assert gap == 7 * FRAME_SAMPLES + 1


def test_silence_is_played_while_the_loop_is_late_and_never_old_samples() -> None:
    card = FakeCard()
    port = opened(card)
    echo(port, 5)
    n_played = len(card.streams[0].sound())
    card.clock.pass_ms(10 * 80)
    played = card.streams[0].sound()[n_played:]
    n_sound = int(np.flatnonzero(played)[-1]) + 1
    assert n_sound <= 3 * FRAME_SAMPLES
    assert not played[n_sound:].any()
    assert port.counters().n_underruns == np.ceil((len(played) - n_sound) / 480)


def test_latency_is_back_at_the_cushion_after_a_quiet_frame() -> None:
    card = FakeCard(signal=quiet)
    port = opened(card)
    echo(port, 5)
    before_ms = port.delay_ms()
    card.clock.pass_ms(5 * 80)
    echo(port, 5)
    after_ms = port.delay_ms()
    assert before_ms is not None
    assert after_ms is not None
    assert abs(after_ms - before_ms) <= 40


def test_without_a_quiet_frame_what_piles_up_is_bounded_and_counted() -> None:
    card = FakeCard()
    port = opened(card, DeviceSettings(max_behind_frames=3))
    loud = np.full(FRAME_SAMPLES, 0.5, np.float32)
    read(port)
    for _ in range(100):  # four times as fast as the card plays
        card.clock.pass_ms(20)
        port.write(loud)
        assert port.counters().n_pending_out <= 1 + 3 + 1
    assert port.counters().n_dropped_out >= 70


def test_flush_silences_the_next_block_and_leaves_no_gap_after_it() -> None:
    card = FakeCard(signal=quiet)
    port = opened(card)
    loud = np.full(FRAME_SAMPLES, 0.5, np.float32)
    for _ in range(10):
        read(port)
        port.write(loud)
    stream = card.streams[0]
    read(port)
    n_blocks = len(stream.played)
    n_forgotten = port.flush()
    assert 0 < n_forgotten <= 2 * FRAME_SAMPLES
    port.write(silence())
    echo(port, 5)
    assert not np.concatenate(stream.played[n_blocks:]).any()
    assert faults(port) == ZERO
    assert port.flush() <= 6 * FRAME_SAMPLES


def test_delay_is_the_time_from_write_to_read_through_a_loud_speaker() -> None:
    """The fake card says 20 ms in and 30 ms out; the rest is the cushion and the frame."""
    port = opened(FakeCard(), DeviceSettings(cushion_ms=80))
    echo(port, 10)
    delay_ms = port.delay_ms()
    assert delay_ms is not None
    assert 80 + 80 + 20 + 30 <= delay_ms <= 80 + 80 + 20 + 30 + 20


def tone(k: np.ndarray, rate_hz: int) -> np.ndarray:
    return np.sin(2 * np.pi * 1_000 * k / rate_hz) * 0.5


@pytest.mark.parametrize("rate_hz", [44_100, 48_000, 16_000])
def test_a_device_of_another_rate_and_two_channels_is_converted(rate_hz: int) -> None:
    card = FakeCard(
        signal=tone,
        listed=[replace(BUILT_IN, default_rate_hz=rate_hz)],
        accepts=lambda spec: (spec.rate_hz, spec.n_inputs) == (rate_hz, 2),
    )
    port = opened(card)
    heard = echo(port, 25)
    stream = card.streams[0]
    assert (stream.spec.rate_hz, stream.spec.n_inputs, stream.spec.n_outputs) == (rate_hz, 2, 2)
    spectrum = np.abs(np.fft.rfft(heard[-24_000:]))
    assert int(spectrum.argmax()) == 1_000
    played = stream.sound().reshape(-1, 2)[-rate_hz:]
    assert np.array_equal(played[:, 0], played[:, 1])
    assert int(np.abs(np.fft.rfft(played[:, 0])).argmax()) == 1_000
    assert abs(float(np.abs(played).max()) - 0.5) < 0.01
    assert faults(port) == ZERO


@pytest.mark.parametrize("n_channels", [1, 2, 6])
def test_a_microphone_array_gives_its_first_channel_stereo_the_mean(n_channels: int) -> None:
    array = replace(BUILT_IN, n_inputs=n_channels)
    card = FakeCard(listed=[array], accepts=lambda spec: spec.n_inputs == n_channels)
    heard = echo(opened(card), 3)
    assert np.array_equal(np.diff(heard * 24_000).round(), np.ones(len(heard) - 1))


def test_one_stream_where_one_device_does_both_else_two() -> None:
    one, refused, two = FakeCard(), FakeCard(), FakeCard()
    refused.accepts = lambda spec: spec.source is None or spec.sink is None
    for card, wish in ((one, Wish()), (refused, Wish()), (two, Wish("Webcam", "Headset"))):
        port = opened(card, DeviceSettings(wish=wish))
        echo(port, 10)
        assert faults(port) == ZERO
    assert [len(card.streams) for card in (one, refused, two)] == [1, 2, 2]
    assert {s.spec.source or s.spec.sink for s in two.streams} == {WEBCAM, HEADSET}


def test_a_sound_server_behind_alsa_gets_two_streams_a_card_one() -> None:
    for name, n_streams in (("default", 2), ("pulse", 2), ("USB Audio: - (hw:1,0)", 1)):
        card = FakeCard(listed=[replace(BUILT_IN, name=name, host_api="ALSA")])
        echo(opened(card), 3)
        assert len(card.streams) == n_streams


def test_formats_are_tried_from_no_conversion_to_the_device_as_it_is() -> None:
    tried = [(s.rate_hz, s.n_inputs, s.n_outputs) for s in specs(BUILT_IN, BUILT_IN)]
    assert tried[0] == (24_000, 1, 1)
    assert len(tried) == len(set(tried)) == 6
    assert {(24_000, 2, 2), (48_000, 1, 1), (44_100, 2, 2)} <= set(tried)


def test_a_device_that_takes_no_format_or_gives_no_sound_is_an_error_with_a_way_out() -> None:
    with pytest.raises(DeviceError, match="refused; try another"):
        opened(FakeCard(accepts=lambda _spec: False))
    mute = FakeCard(calls=False)
    with pytest.raises(DeviceError, match="no sound flows"):
        opened(mute)
    assert all(stream.closed for stream in mute.streams)
    with pytest.raises(DeviceError, match="no microphone"):
        opened(FakeCard(listed=[]))


def test_a_wrong_name_is_an_error_at_first_not_a_silent_default() -> None:
    with pytest.raises(DeviceError, match="'Headsett' is not one of those here"):
        opened(FakeCard(), DeviceSettings(wish=Wish("Headsett")))


def test_a_device_plugged_in_since_devices_were_listed_is_found() -> None:
    class Listed(FakeCard):
        """Lists what was there when it last looked, as PortAudio does."""

        def devices(self, *, afresh: bool = False) -> list[DeviceInfo]:
            now = super().devices(afresh=afresh)
            self.known = now if afresh else getattr(self, "known", [])
            return self.known

    card = Listed()
    port = DevicePort(DeviceSettings(), card.clock, backend=card, start_helper=lambda work: work())
    port.open()
    assert port.read(engine_idle=False) is not None
    assert len(card.attempts_ns) == 1


def test_settings_refuse_what_makes_no_sense() -> None:
    with pytest.raises(ConfigError, match="cushion_ms is 0; it must be"):
        DeviceSettings(cushion_ms=0)
    with pytest.raises(ConfigError, match="max_behind_frames is 0; it must be"):
        DeviceSettings(max_behind_frames=0)
    with pytest.raises(ConfigError, match="patience_frames is 99; it must be"):
        DeviceSettings(patience_frames=99)


def test_close_releases_the_device_and_may_be_called_twice_or_before_open() -> None:
    card = FakeCard()
    port = opened(card)
    echo(port, 3)
    port.close(completed=True)
    port.close(completed=False)
    assert [stream.closed for stream in card.streams] == [True]
    assert port.counters().n_pending_out == 0
    DevicePort(DeviceSettings(), card.clock, backend=card).close(completed=True)
