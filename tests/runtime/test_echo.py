"""The echo canceller's laws, in rooms made by calculation and with a voice that needs no model."""

from __future__ import annotations

import numpy as np
import pytest

from edge.errors import ShapeError
from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm, silence
from runtime.sound.cancel.gate import ResidueGate
from runtime.sound.cancel.meter import ErleMeter, meter_step
from runtime.sound.echo import EchoCanceller
from runtime.sound.lines import Room, through_room
from tests.runtime.rooms import by_frame, db_between, hiss, voice, whole_frames

SECONDS = 8.0


def echo_of(far: Pcm, **room: float) -> Pcm:
    echo = through_room(far, Room(**room))  # type: ignore[arg-type]
    return (1.5 * echo + hiss(len(far) / SAMPLE_RATE_HZ, level_db=-65, seed=9)).astype(np.float32)


def test_while_nothing_was_played_the_microphone_passes_to_the_bit() -> None:
    pcm = whole_frames(voice(2.0, seed=1))
    canceller = EchoCanceller()
    out = by_frame(lambda near: canceller.process(near, silence()), pcm)
    assert np.array_equal(out, pcm)
    assert canceller.passing
    assert canceller.erle_db is None


@pytest.mark.parametrize(
    ("delay_ms", "told_ms"),
    [(40.0, None), (40.0, 15.0), (200.0, 180.0), (400.0, None), (200.0, 60.0)],
)
def test_the_assistant_s_voice_is_taken_away_wherever_it_comes_back(
    delay_ms: float, told_ms: float | None
) -> None:
    far = whole_frames(voice(SECONDS, seed=2))
    near = echo_of(far, delay_ms=delay_ms, drift_ppm=50.0)
    canceller = EchoCanceller(delay_ms=told_ms)
    out = by_frame(canceller.process, near, far)
    late = slice(int(3 * SAMPLE_RATE_HZ), None)
    assert db_between(near[late], out[late]) > 20
    assert canceller.converged
    assert canceller.erle_db is not None
    assert canceller.erle_db > 12
    assert canceller.delay_ms == pytest.approx(delay_ms, abs=20)


def test_a_talker_over_the_assistant_is_still_there() -> None:
    far = whole_frames(voice(SECONDS, seed=3))
    talk = np.zeros_like(far)
    talk[5 * SAMPLE_RATE_HZ : 7 * SAMPLE_RATE_HZ] = voice(2.0, seed=4, pitch_hz=210)
    near = echo_of(far, delay_ms=100) + talk
    out = by_frame(EchoCanceller(delay_ms=100).process, near, far)
    during = slice(5 * SAMPLE_RATE_HZ, 7 * SAMPLE_RATE_HZ)
    assert abs(db_between(talk[during], out[during])) < 6
    assert np.corrcoef(out[during][367:], talk[during][:-367])[0, 1] > 0.5


def test_equal_sound_gives_equal_sound() -> None:
    far = whole_frames(voice(2.0, seed=5))
    near = echo_of(far, delay_ms=60)
    a, b = (by_frame(EchoCanceller().process, near, far) for _ in range(2))
    assert np.array_equal(a, b)


def test_it_warms_up_within_the_first_two_seconds_and_never_again() -> None:
    far = whole_frames(np.concatenate([voice(3.0, seed=6), np.zeros(72_000, np.float32)] * 2))
    near = echo_of(far, delay_ms=100)
    canceller, warming = EchoCanceller(delay_ms=100, warm_up_ms=1_500), []

    def step(near: Pcm, far: Pcm) -> Pcm:
        out = canceller.process(near, far)
        warming.append(canceller.warming_up)
        return out

    by_frame(step, near, far)
    assert warming[1]
    assert not any(warming[25:])


def test_a_room_in_which_it_never_works_does_not_make_it_deaf() -> None:
    """Something else than what was played comes back: it never converges."""
    far, other = whole_frames(voice(6.0, seed=7)), whole_frames(voice(6.0, seed=8))
    canceller, warming = EchoCanceller(delay_ms=100, warm_up_ms=800), []
    for at in range(0, len(far), FRAME_SAMPLES):
        frame = slice(at, at + FRAME_SAMPLES)
        canceller.process(5 * other[frame], far[frame])
        warming.append(canceller.warming_up)
    assert 5 <= sum(warming) <= 30
    assert not any(warming[-20:])


def test_what_was_flushed_has_no_echo() -> None:
    far = whole_frames(voice(3.0, seed=9))
    canceller = EchoCanceller(delay_ms=500)
    for at in range(0, len(far), FRAME_SAMPLES):
        canceller.process(silence(), far[at : at + FRAME_SAMPLES])
    canceller.forget(SAMPLE_RATE_HZ)
    for _ in range(25):
        canceller.process(silence(), silence())
    pcm = whole_frames(voice(0.5, seed=10))
    assert np.array_equal(by_frame(lambda n: canceller.process(n, silence()), pcm), pcm)


def test_only_whole_frames_are_taken() -> None:
    with pytest.raises(ShapeError):
        EchoCanceller().process(silence(), np.zeros(10, np.float32))


def test_the_meter_reads_how_much_quieter_things_became() -> None:
    meter, frame = ErleMeter(), whole_frames(voice(0.08, seed=11))
    for _ in range(10):
        meter = meter_step(meter, near=frame, far=frame, cancelled=frame / 10)
    assert meter.erle_db == pytest.approx(20, abs=0.5)
    assert not meter.is_low
    assert meter_step(meter, near=frame, far=silence(), cancelled=frame) == meter


def test_the_gate_shuts_on_residues_and_lets_a_talker_through() -> None:
    echo = hiss(0.8, level_db=-20, seed=12)
    for level_db, passes in ((-50, False), (-22, True)):
        left = hiss(0.8, level_db=level_db, seed=13)
        gate = ResidueGate(lag=0)
        out = by_frame(gate.process, left, echo)
        assert (db_between(left[4_800:], out[4_800:]) < 1) is passes


def test_a_device_that_tells_another_delay_all_the_time_does_not_make_it_deaf() -> None:
    """Headphones: nothing comes back, so there is nothing to prove itself on."""
    far = whole_frames(voice(6.0, seed=9))
    canceller, warming = EchoCanceller(delay_ms=100, warm_up_ms=800), []
    for index, at in enumerate(range(0, len(far), FRAME_SAMPLES)):
        canceller.set_delay_ms(100 + 60 * (index % 3))
        canceller.process(np.zeros(FRAME_SAMPLES, np.float32), far[at : at + FRAME_SAMPLES])
        warming.append(canceller.warming_up)
    assert any(warming)
    assert not any(warming[30:])
