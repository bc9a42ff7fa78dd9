"""Speaking lower while the user speaks: at once, without clicks, and not for a steady noise."""

from __future__ import annotations

import numpy as np

from edge.frame import FRAME_SAMPLES, Pcm, silence
from runtime.engines.manners import Manners, listen, speak
from runtime.sound.levels import from_db, rms
from tests.runtime.rooms import hiss

SPOKEN = np.full(FRAME_SAMPLES, 0.1, np.float32)
VOICE = hiss(0.08, level_db=-25.0, seed=0)[:FRAME_SAMPLES]


def answer(manners: Manners, heard: Pcm, *, duck_db: float = -12.0) -> tuple[Pcm, list[str]]:
    listen(manners, heard)
    pcm, events = speak(manners, SPOKEN, audible=True, duck_db=duck_db)
    assert all(event.facts["why"] for event in events)
    return pcm, [event.kind for event in events]


def test_it_is_lower_from_the_first_frame_of_a_voice() -> None:
    manners = Manners()
    assert answer(manners, silence())[0] is SPOKEN
    pcm, told = answer(manners, VOICE)
    assert told == ["user_ducked"]
    assert pcm[0] == SPOKEN[0]
    assert np.abs(np.diff(pcm)).max() < 1e-4  # a slope, no step
    pcm, told = answer(manners, VOICE)
    assert not told
    np.testing.assert_allclose(pcm, SPOKEN * from_db(-12.0), rtol=1e-5)


def test_it_is_raised_again_when_nothing_followed() -> None:
    manners = Manners()
    answer(manners, VOICE)
    told = [kind for _ in range(5) for kind in answer(manners, silence())[1]]
    assert told == ["user_raised"]
    assert answer(manners, silence())[0] is SPOKEN


def test_a_breath_between_words_does_not_raise_it() -> None:
    manners = Manners()
    told = [kind for heard in (VOICE, silence(), silence(), VOICE, VOICE)
            for kind in answer(manners, heard)[1]]  # fmt: skip
    assert told == ["user_ducked"]


def test_a_noise_that_stays_is_no_voice_after_a_while() -> None:
    manners, noise = Manners(), hiss(30.0, level_db=-40.0, seed=1)
    voices = [listen(manners, frame) for frame in noise.reshape(-1, FRAME_SAMPLES)]
    assert voices[0]
    assert not any(voices[60:])
    louder = hiss(0.08, level_db=-20.0, seed=2)[:FRAME_SAMPLES]
    assert listen(manners, louder)


def test_nothing_is_lowered_while_nothing_is_said_or_if_it_is_not_wanted() -> None:
    manners = Manners()
    listen(manners, VOICE)
    assert speak(manners, silence(), audible=False, duck_db=-12.0)[1] == []
    pcm, told = answer(Manners(), VOICE, duck_db=0.0)
    assert pcm is SPOKEN
    assert told == []
    assert rms(pcm) == rms(SPOKEN)
