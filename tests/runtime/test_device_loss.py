from __future__ import annotations

import gc
import logging
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge.errors import DeviceError
from edge.frame import FRAME_NS, silence
from runtime.sound.card.connect import Wish
from runtime.sound.card.exchange import Exchange
from runtime.sound.card.link import InputSide, Link, OutputSide
from runtime.sound.card.portaudio import OnBlock, StreamSpec
from runtime.sound.card.recovery import Action, Attempt, Phase, Recovery, advance, is_alive
from runtime.sound.device import DevicePort, DeviceSettings, in_thread
from runtime.sound.ring import SampleRing
from tests.runtime.fake_card import BUILT_IN, HEADSET, FakeCard, FakeStream

SECOND_NS = 1_000_000_000


def in_line(work: Callable[[], None]) -> None:
    work()


def opened(card: FakeCard, wish: Wish | None = None) -> DevicePort:
    settings = DeviceSettings(wish=wish or Wish())
    port = DevicePort(settings, card.clock, backend=card, start_helper=in_line)
    port.open()
    return port


def run(port: DevicePort, n_frames: int) -> np.ndarray:
    """Echo; returns what was heard, (n_frames, 1920)."""
    heard = []
    for _ in range(n_frames):
        pcm = port.read(engine_idle=False)
        assert pcm is not None
        port.write(pcm)
        heard.append(pcm)
    return np.stack(heard)


def test_a_vanished_device_is_silence_on_time_and_then_sound_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    card = FakeCard()
    port = opened(card)
    run(port, 5)
    card.unplug()
    run(port, 1)  # notices
    began_ns = card.clock.now_ns()
    heard = run(port, 100)
    assert not heard.any()
    assert card.clock.now_ns() - began_ns == 100 * FRAME_NS
    assert port.delay_ms() is None
    card.works = True
    heard = run(port, 100)
    assert heard[-1].all()
    assert port.counters().n_reopened == 1
    said = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 2
    assert "stopped" in said[0]
    assert "sound is back" in said[1]


def test_loss_is_noticed_after_three_frames_without_a_callback() -> None:
    card = FakeCard()
    port = opened(card)
    run(port, 5)
    card.unplug()
    began_ns = card.clock.now_ns()
    run(port, 1)
    assert 3 * FRAME_NS <= card.clock.now_ns() - began_ns <= 5 * FRAME_NS


def test_a_stream_that_ends_by_itself_is_noticed_at_once() -> None:
    card = FakeCard()
    port = opened(card)
    run(port, 5)
    card.unplug()
    card.streams[0].on_finished()
    began_ns = card.clock.now_ns()
    run(port, 1)
    assert card.clock.now_ns() - began_ns <= FRAME_NS


def test_attempts_come_ever_less_often_up_to_every_four_seconds() -> None:
    card = FakeCard()
    port = opened(card)
    run(port, 5)
    card.unplug()
    card.streams[0].on_finished()
    lost_ns = card.clock.now_ns()
    run(port, 25 * 13)
    waits_s = np.diff([lost_ns, *card.attempts_ns]) / SECOND_NS
    wanted_s = [0.25, 0.5, 1, 2, 4, 4, 4, 4]
    # The port looks once a frame, for news of the last attempt and then for the next one's time.
    assert np.all(waits_s[:8] >= wanted_s)
    assert np.allclose(waits_s[:8], wanted_s, atol=0.161)


def test_the_wanted_device_is_taken_again_wherever_it_is_in_the_list() -> None:
    card = FakeCard()
    port = opened(card, Wish("Headset", "Headset"))
    run(port, 5)
    card.unplug()
    run(port, 10)
    card.listed, card.works = [HEADSET, BUILT_IN], True
    run(port, 30)
    assert card.streams[-1].spec.source == HEADSET


def test_without_the_wanted_device_the_default_takes_over_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    card = FakeCard()
    port = opened(card, Wish("Headset", "Headset"))
    run(port, 5)
    card.unplug()
    card.listed, card.works = [BUILT_IN], True
    assert run(port, 30)[-1].all()
    assert card.streams[-1].spec.source == BUILT_IN
    assert any("using Built-in" in record.message for record in caplog.records)


def test_counts_go_on_over_a_loss_and_every_old_stream_is_closed() -> None:
    card = FakeCard()
    port = opened(card)
    run(port, 5)
    card.clock.pass_ms(800)
    run(port, 5)
    before = port.counters()
    assert before.n_dropped_in > 0
    card.unplug()
    run(port, 10)
    card.works = True
    run(port, 30)
    after = port.counters()
    assert after.n_dropped_in == before.n_dropped_in
    assert after.n_underruns >= before.n_underruns
    assert [stream.closed for stream in card.streams] == [True, False]


def test_a_card_lost_and_opened_fifty_times_leaves_nothing_behind() -> None:
    card = FakeCard()

    def beside(work: Callable[[], None]) -> None:
        in_thread(work)
        for thread in threading.enumerate():
            if thread.name == "edge-sound-device":
                thread.join()

    port = DevicePort(DeviceSettings(), card.clock, backend=card, start_helper=beside)
    port.open()
    run(port, 2)
    before = _held()
    for n_lost in range(1, 51):
        card.unplug()
        run(port, 5)
        card.works = True
        while port.counters().n_reopened < n_lost:
            run(port, 1)
        # What the fake keeps for other tests would hold on to every link.
        card.streams[:] = card.clock.streams[:] = card.streams[-1:]
    run(port, 2)
    assert _held() <= before  # what other tests have left may go meanwhile
    assert before["Link"] == 1


def _held() -> Counter[str]:
    """Live objects of a link, by type, and open descriptors where they can be counted."""
    gc.collect()
    kinds = (Link, InputSide, OutputSide, SampleRing, Exchange, threading.Thread)
    counts = Counter(
        type(each).__name__ for each in gc.get_objects() if issubclass(type(each), kinds)
    )
    if (folder := Path("/proc/self/fd")).exists():
        counts["descriptors"] = len(list(folder.iterdir()))
    return counts


def test_what_holds_up_the_callback_and_the_loop_alike_is_no_loss() -> None:
    card = FakeCard()
    port = opened(card)
    run(port, 5)
    card.clock.stall_ns = SECOND_NS
    card.clock.pass_ms(10)  # a step that kept the interpreter to itself
    assert run(port, 5).all()
    card.clock.stall_ns = SECOND_NS  # a machine too busy to wake anybody
    assert run(port, 5).all()
    assert port.counters().n_reopened == 0


def test_a_port_closed_while_the_device_comes_back_closes_that_too() -> None:
    card = FakeCard()
    later: list[Callable[[], None]] = []
    port = DevicePort(DeviceSettings(), card.clock, backend=card, start_helper=later.append)
    port.open()
    run(port, 5)
    card.unplug()
    run(port, 10)
    card.works = True
    (attempt,) = later
    port.close(completed=True)
    attempt()
    assert len(card.streams) == 2
    assert all(stream.closed for stream in card.streams)


def test_what_no_device_can_be_blamed_for_is_not_hidden() -> None:
    card = FakeCard()
    port = opened(card)
    run(port, 5)
    card.unplug()
    card.listed = [None]  # type: ignore[list-item]
    with pytest.raises(AttributeError):
        run(port, 20)


class Flapping(FakeCard):
    """Every stream dies a second after it was opened."""

    def open_stream(
        self, spec: StreamSpec, on_block: OnBlock, on_finished: Callable[[], None]
    ) -> FakeStream:
        stream = super().open_stream(spec, on_block, on_finished)

        def counted(*block: object) -> None:
            on_block(*block)  # type: ignore[arg-type]
            if len(stream.played) >= 50:
                stream.running = False

        stream._on_block = counted
        return stream


def test_a_device_that_flaps_is_tried_ever_less_often() -> None:
    card = Flapping()
    port = opened(card)
    run(port, 25 * 13)
    waits_s = np.diff(card.attempts_ns) / SECOND_NS
    assert np.all(np.diff(waits_s[:4]) > 0.2)
    assert port.counters().n_reopened >= 4


def test_write_and_flush_without_a_device_are_harmless() -> None:
    card = FakeCard()
    port = opened(card)
    run(port, 5)
    card.unplug()
    run(port, 5)
    port.write(silence())
    assert port.flush() == 0
    assert port.counters().n_pending_out == 0


def test_recovery_is_a_pure_function_of_what_it_is_told() -> None:
    state, action = advance(Recovery(), 0, alive=False, attempt=Attempt.NO_NEWS)
    assert (state.phase, action) == (Phase.WAITING, Action.GIVE_UP)
    early, action = advance(state, 249_999_999, alive=False, attempt=Attempt.NO_NEWS)
    assert (early, action) == (state, Action.NONE)
    state, action = advance(state, 250_000_000, alive=False, attempt=Attempt.NO_NEWS)
    assert (state.phase, action) == (Phase.OPENING, Action.OPEN)
    again, action = advance(state, SECOND_NS, alive=False, attempt=Attempt.NO_NEWS)
    assert (again, action) == (state, Action.NONE)
    state, action = advance(state, SECOND_NS, alive=False, attempt=Attempt.OPENED)
    assert (state.phase, state.n_reopened, action) == (Phase.RUNNING, 1, Action.RESUME)


def test_alive_means_not_ended_and_heard_of_lately() -> None:
    law = {"last_block_ns": 100, "patience_ns": 50}
    assert is_alive(150, finished=False, **law)
    assert not is_alive(151, finished=False, **law)
    assert not is_alive(100, finished=True, **law)


def test_no_device_at_all_while_trying_again_is_just_a_failed_attempt() -> None:
    card = FakeCard()
    port = opened(card)
    run(port, 5)
    card.unplug()
    card.listed = []
    run(port, 50)
    card.listed, card.works = [BUILT_IN], True
    assert run(port, 60)[-1].all()
    with pytest.raises(DeviceError):
        opened(FakeCard(listed=[]))
