"""The microphone's laws: sound without faults is left alone, each fault is mended or named."""

from __future__ import annotations

import numpy as np
import pytest

from edge.errors import ShapeError
from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm, silence
from runtime.sound.conditioning import (
    ConditionState,
    adapt,
    condition,
    condition_start,
    findings,
    repair,
)
from runtime.sound.levels import from_db, rms, speech_rms, to_db
from runtime.sound.lines import lost_packets, telephone, without_packets
from tests.runtime.rooms import hiss, voice, whole_frames


def through(pcm: Pcm, **flags: bool) -> tuple[ConditionState, Pcm]:
    """A whole recording, frame by frame."""
    state, out = condition_start(), []
    for at in range(0, len(pcm), FRAME_SAMPLES):
        state, frame = condition(state, pcm[at : at + FRAME_SAMPLES], **flags)
        out.append(frame)
    return state, np.concatenate(out)


def test_sound_without_faults_at_a_usual_level_is_untouched_to_the_bit() -> None:
    pcm = whole_frames(voice(6.0, seed=1) + hiss(6.0, level_db=-70, seed=2))
    state, out = through(pcm)
    assert np.array_equal(out, pcm)
    assert state.gain_db == 0
    assert findings(state) == {}


def test_equal_input_gives_equal_output_and_the_state_passed_in_is_not_changed() -> None:
    pcm = whole_frames(voice(2.0, seed=1) * np.float32(0.01))
    assert np.array_equal(through(pcm)[1], through(pcm)[1])
    before = condition_start()
    condition(before, pcm[:FRAME_SAMPLES])
    assert (before.n_frames, before.gain_db, before.band_hz) == (0, 0.0, None)


@pytest.mark.parametrize("down_db", [-30, -20])
def test_a_quiet_talker_is_brought_up_within_the_first_sentence(down_db: float) -> None:
    pcm = whole_frames(voice(6.0, seed=3, level=0.06 * from_db(down_db)))
    state, out = through(pcm)
    late = slice(2 * SAMPLE_RATE_HZ, None)
    assert to_db(speech_rms(out[late])) > -38
    assert to_db(speech_rms(out[late])) > to_db(speech_rms(pcm[late])) + 6
    assert np.abs(out).max() < 1
    assert ("quiet" in findings(state)) == (state.gain_db > 12)


def test_a_loud_talker_is_brought_down() -> None:
    pcm = np.clip(whole_frames(voice(6.0, seed=4, level=0.6)), -0.95, 0.95)
    state, out = through(pcm)
    assert -18 <= state.gain_db < 0
    assert rms(out[-SAMPLE_RATE_HZ:]) < rms(pcm[-SAMPLE_RATE_HZ:])


def test_noise_alone_moves_no_gain() -> None:
    state, out = through(whole_frames(hiss(8.0, level_db=-60, seed=5)))
    assert state.gain_db == 0
    assert to_db(rms(out)) == pytest.approx(-60, abs=0.5)


def test_nothing_is_learnt_while_the_assistant_is_heard() -> None:
    pcm = whole_frames(voice(4.0, seed=6, level=0.002) + hiss(4.0, level_db=-95, seed=7))
    state, out = through(pcm, playing=True)
    assert state.gain_db == 0
    assert state.band_hz is None
    assert np.array_equal(out, pcm)


def test_the_band_of_a_line_is_known() -> None:
    wide = whole_frames(voice(6.0, seed=7) + hiss(6.0, level_db=-50, seed=8))
    narrow = telephone(wide)
    state, _ = through(narrow)
    assert state.band_hz == 4_000
    assert "telephone" in findings(state)
    assert through(wide)[0].band_hz in (8_000, 12_000)
    assert through(whole_frames(np.zeros(SAMPLE_RATE_HZ, np.float32)))[0].band_hz is None


def test_lost_packets_are_filled_with_something_like_what_was_lost() -> None:
    clean = whole_frames(voice(8.0, seed=9))
    lost = lost_packets(len(clean) // 480, part=0.05, burst=1.5, seed=10)
    holed = without_packets(clean, lost)
    state, out = through(holed)
    gone = np.repeat(lost, 480)
    assert np.array_equal(out[:FRAME_SAMPLES], clean[:FRAME_SAMPLES]) or gone[:FRAME_SAMPLES].any()
    loud = gone & (np.abs(clean) > 1e-3)
    assert rms(out[loud]) > 0.4 * rms(clean[loud])
    assert state.conceal.n_gaps > 5
    assert "loss" in findings(state)


def test_a_frame_that_never_came_continues_the_voice_and_then_fades() -> None:
    pcm = whole_frames(np.sin(2 * np.pi * 150 * np.arange(24_000) / 24_000).astype(np.float32) / 4)
    state, _ = repair(condition_start(), pcm[:FRAME_SAMPLES])
    state, filled = repair(state, silence(), lost=True)
    assert rms(filled[:480]) == pytest.approx(rms(pcm), rel=0.2)
    assert rms(filled[-480:]) < 0.01
    state, again = repair(state, silence(), lost=True)
    assert rms(again) < 0.01


def test_silence_between_words_is_not_taken_for_loss() -> None:
    pcm = voice(1.0, seed=11)
    pcm = whole_frames(np.concatenate([pcm, np.zeros(SAMPLE_RATE_HZ, np.float32)] * 3))
    _, out = through(pcm)
    assert rms(out[int(1.2 * SAMPLE_RATE_HZ) : int(1.9 * SAMPLE_RATE_HZ)]) == 0


def test_numbers_that_are_none_become_silence_and_are_told() -> None:
    pcm = whole_frames(voice(1.0, seed=12))
    pcm[100], pcm[200], pcm[300] = np.nan, np.inf, -1e9
    state, out = through(pcm)
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= 1
    assert state.n_bad == 3
    assert "numbers" in findings(state)


def test_a_constant_part_is_taken_out_without_a_click() -> None:
    pcm = whole_frames(voice(20.0, seed=13) + np.float32(0.05))
    _, out = through(pcm)
    assert abs(float(np.mean(out[-4 * SAMPLE_RATE_HZ :]))) < 0.004
    step = np.abs(np.diff(pcm - out))
    assert step.max() < 1e-4


def test_a_dead_microphone_and_an_overdriven_one_are_named() -> None:
    dead, _ = through(np.zeros(60 * FRAME_SAMPLES, np.float32))
    assert set(findings(dead)) == {"dead"}
    loud, _ = through(np.clip(whole_frames(voice(6.0, seed=14, level=2.0)), -1, 1))
    assert "clipping" in findings(loud)
    assert all(":" not in line[:3] and len(line) > 20 for line in findings(loud).values())


@pytest.mark.parametrize("step", [repair, adapt])
def test_only_whole_frames_are_taken(step: object) -> None:
    with pytest.raises(ShapeError):
        step(condition_start(), np.zeros(100, np.float32))  # type: ignore[operator]
