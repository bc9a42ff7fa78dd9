"""The own voice in the ear: kept out once its way is known, and nobody else's ever."""

from __future__ import annotations

import numpy as np
import pytest

from edge.errors import ShapeError
from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm, silence
from runtime.engines.own_voice import OwnVoice, hear, say
from runtime.sound.lines import Room, through_room
from tests.runtime.rooms import by_frame, db_between, hiss, voice, whole_frames

SAID = whole_frames(voice(10.0, seed=3))
USER = whole_frames(voice(10.0, seed=9, pitch_hz=190.0))
ROOM_NOISE = hiss(len(SAID) / SAMPLE_RATE_HZ, level_db=-60.0, seed=1)
LATER = slice(3 * SAMPLE_RATE_HZ, None)


def heard_by(own: OwnVoice, said: Pcm, microphone: Pcm) -> Pcm:
    def step(far: Pcm, near: Pcm) -> Pcm:
        say(own, far)
        return hear(own, near)

    return by_frame(step, said, microphone)


@pytest.mark.parametrize(("delay_ms", "factor"), [(40, 1.5), (200, 0.3)])
def test_an_echo_is_kept_out_once_its_way_is_known(delay_ms: int, factor: float) -> None:
    own, echo = OwnVoice(), through_room(SAID, Room(delay_ms=delay_ms, seed=delay_ms))
    microphone = echo * np.float32(factor) + ROOM_NOISE
    out = heard_by(own, SAID, microphone)
    assert own.way is not None
    assert abs(own.way * 10 - delay_ms) <= 10
    assert db_between(microphone[LATER], out[LATER]) > 8


def test_a_talker_over_a_weaker_echo_is_heard() -> None:
    own, echo = OwnVoice(), through_room(SAID, Room(delay_ms=120, seed=1))
    user = USER.copy()
    user[: 5 * SAMPLE_RATE_HZ] = 0
    out = heard_by(own, SAID, echo * np.float32(0.3) + user + ROOM_NOISE)
    assert own.n_kept_out > 50
    voiced = np.abs(user) > 0.02
    assert np.mean(out[voiced] != 0) > 0.85


def test_who_talks_at_the_same_time_is_no_echo() -> None:
    own, microphone = OwnVoice(), USER + ROOM_NOISE
    np.testing.assert_array_equal(heard_by(own, SAID, microphone), microphone)
    assert own.way is None


def test_after_the_reply_everything_is_heard() -> None:
    own, echo = OwnVoice(), through_room(SAID, Room(delay_ms=80, seed=2))
    heard_by(own, SAID, echo + ROOM_NOISE)
    assert own.way is not None
    for _ in range(4):  # what is still ringing
        say(own, silence())
        hear(own, silence())
    quiet = np.zeros_like(USER)
    np.testing.assert_array_equal(heard_by(own, quiet, USER), USER)


def test_a_way_that_ends_is_forgotten() -> None:
    own, echo = OwnVoice(), through_room(SAID, Room(delay_ms=80, seed=2))
    heard_by(own, SAID, echo + ROOM_NOISE)
    heard_by(own, SAID, USER + ROOM_NOISE)  # now in headphones
    assert own.way is None


def test_only_whole_frames() -> None:
    with pytest.raises(ShapeError):
        hear(OwnVoice(), np.zeros(FRAME_SAMPLES - 1, np.float32))
    with pytest.raises(ShapeError):
        say(OwnVoice(), np.zeros(FRAME_SAMPLES - 1, np.float32))
