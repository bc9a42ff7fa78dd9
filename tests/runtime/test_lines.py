"""Poor lines: each does what its name says, and the same each time."""

from __future__ import annotations

import numpy as np
import pytest

from edge.errors import UsageError
from edge.frame import SAMPLE_RATE_HZ, Pcm
from runtime.sound.levels import rms, speech_rms, to_db
from runtime.sound.lines import (
    CONDITIONS,
    Room,
    degrade,
    far_microphone,
    jittered,
    lateness_ms,
    lost_packets,
    quiet_talker,
    telephone,
    through_room,
    with_noise,
    without_packets,
)
from tests.runtime.rooms import voice


def band_power(pcm: Pcm, low_hz: float, high_hz: float) -> float:
    bins_hz = np.fft.rfftfreq(len(pcm), 1 / SAMPLE_RATE_HZ)
    power = np.abs(np.fft.rfft(pcm)) ** 2
    return float(power[(bins_hz >= low_hz) & (bins_hz < high_hz)].sum())


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_line_is_the_same_for_the_same_seed_and_keeps_the_length(name: str) -> None:
    pcm = voice(3.0, seed=1)
    before = pcm.copy()
    out = degrade(name, pcm, seed=2)
    assert out.dtype == np.float32
    assert out.shape == pcm.shape
    assert np.array_equal(out, degrade(name, pcm, seed=2))
    assert np.array_equal(pcm, before)
    assert np.isfinite(out).all()
    assert (name == "clean") == np.array_equal(out, pcm)


def test_an_unknown_line_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="telephone"):
        degrade("carrier pigeon", voice(0.1, seed=1), seed=0)


def test_a_telephone_carries_nothing_above_its_band() -> None:
    pcm = voice(3.0, seed=3)
    out = telephone(pcm)
    assert band_power(out, 4_000, 12_000) < 1e-4 * band_power(out, 300, 3_400)
    assert band_power(out, 300, 3_000) == pytest.approx(band_power(pcm, 300, 3_000), rel=0.1)


@pytest.mark.parametrize("snr_db", [0, 10, 20])
def test_noise_is_as_far_below_the_speech_as_asked(snr_db: float) -> None:
    pcm = voice(4.0, seed=4)
    noise = with_noise(pcm, snr_db=snr_db, seed=5) - pcm
    assert to_db(speech_rms(pcm)) - to_db(rms(noise)) == pytest.approx(snr_db, abs=0.1)


@pytest.mark.parametrize(("part", "burst"), [(0.03, 1.5), (0.1, 1.0), (0.2, 4.0)])
def test_as_many_packets_are_lost_as_asked_in_runs_as_long_as_asked(
    part: float, burst: float
) -> None:
    lost = lost_packets(200_000, part=part, burst=burst, seed=6)
    runs = np.count_nonzero(lost[1:] & ~lost[:-1])
    assert lost.mean() == pytest.approx(part, rel=0.1)
    assert lost.sum() / runs == pytest.approx(burst, rel=0.15)
    with pytest.raises(UsageError):
        lost_packets(10, part=1.0, burst=1.0, seed=0)


def test_a_lost_packet_is_exact_zeros_and_the_rest_is_untouched() -> None:
    pcm = voice(1.0, seed=7) + np.float32(0.01)
    lost = np.zeros(50, bool)
    lost[[3, 17]] = True
    out = without_packets(pcm, lost)
    assert np.array_equal(out == 0, np.repeat(lost, 480) | (pcm == 0))
    assert np.array_equal(out[~np.repeat(lost, 480)], pcm[~np.repeat(lost, 480)])


def test_packets_on_a_jittery_line_are_late_but_never_overtake() -> None:
    late = lateness_ms(5_000, spread_ms=12, seed=8)
    assert (late >= 0).all()
    assert np.median(late) == pytest.approx(12, abs=8)
    assert (np.diff(late) >= -20).all()
    pcm = voice(4.0, seed=9) + np.float32(0.01)
    n_lost = [
        np.count_nonzero(jittered(pcm, spread_ms=12, buffer_ms=b, seed=9) == 0) for b in (20, 60)
    ]
    assert n_lost[0] > n_lost[1]


def test_a_room_delays_and_reverberates_at_the_same_level() -> None:
    click = np.zeros(SAMPLE_RATE_HZ, np.float32)
    click[0] = 1.0
    out = through_room(click, Room(delay_ms=100, reverb_ms=150))
    assert int(np.argmax(np.abs(out))) == 2_400
    assert not out[:2_400].any()
    assert rms(out) == pytest.approx(rms(click), rel=1e-3)
    late, early = out[2_400 + 3_000 :], out[2_400 : 2_400 + 600]
    assert rms(late) * np.sqrt(len(late)) < 0.2 * rms(early) * np.sqrt(len(early))


def test_a_drifting_clock_moves_the_sound_by_as_much_as_it_says() -> None:
    pcm = voice(20.0, seed=10)
    plain = through_room(pcm, Room(reverb_ms=1, direct_db=60))
    drifted = through_room(pcm, Room(reverb_ms=1, direct_db=60, drift_ppm=500))
    n = SAMPLE_RATE_HZ // 2
    end = slice(18 * SAMPLE_RATE_HZ, 18 * SAMPLE_RATE_HZ + n)
    match = np.fft.irfft(
        np.fft.rfft(plain[end], 2 * n) * np.conj(np.fft.rfft(drifted[end], 2 * n)), 2 * n
    )
    shift = int(np.argmax(match))
    shift = shift - 2 * n if shift > n else shift
    assert shift == pytest.approx(18.25 * SAMPLE_RATE_HZ * 500e-6, abs=8)


def test_a_far_microphone_and_a_quiet_talker_are_faint() -> None:
    pcm = voice(3.0, seed=11)
    assert to_db(speech_rms(far_microphone(pcm, seed=1))) < to_db(speech_rms(pcm)) - 8
    quiet = quiet_talker(pcm)
    assert to_db(speech_rms(quiet)) == pytest.approx(to_db(speech_rms(pcm)) - 30, abs=0.5)
    steps = quiet * 32_767
    assert np.abs(steps - np.round(steps)).max() < 1e-2
