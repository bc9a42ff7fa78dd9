"""The ear: what it keeps is what was said, and its resampling is clean and prompt."""

from __future__ import annotations

import numpy as np
import pytest

from edge.errors import ShapeError
from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm
from runtime.engines.ear import KEPT_SAMPLES, Ear, Ratio32


def tone(hz: float, n_frames: int) -> Pcm:
    t = np.arange(n_frames * FRAME_SAMPLES) / SAMPLE_RATE_HZ
    return np.sin(2 * np.pi * hz * t).astype(np.float32)


def through(pcm: Pcm) -> Pcm:
    ratio = Ratio32()
    return np.concatenate([ratio.push(frame) for frame in pcm.reshape(-1, FRAME_SAMPLES)])


@pytest.mark.parametrize("hz", [100, 1_000, 3_000, 6_000])
def test_speech_frequencies_pass_unchanged_one_millisecond_late(hz: float) -> None:
    out = through(tone(hz, 10))[1_600:]
    t = (np.arange(len(out)) + 1_600) / 16_000 - (95 // 2) / 48_000
    assert out == pytest.approx(np.sin(2 * np.pi * hz * t), abs=0.01)


@pytest.mark.parametrize("hz", [9_000, 10_000, 11_500])
def test_what_16_khz_cannot_hold_is_gone(hz: float) -> None:
    assert np.abs(through(tone(hz, 10))[1_600:]).max() < 10 ** (-50 / 20)


def test_a_frame_gives_all_of_its_samples_at_once() -> None:
    ratio = Ratio32()
    assert [ratio.push(np.zeros(FRAME_SAMPLES, np.float32)).size for _ in range(3)] == [1_280] * 3
    with pytest.raises(ShapeError):
        ratio.push(np.zeros(100, np.float32))


def test_chunks_are_complete_and_in_order() -> None:
    ear, pcm = Ear(), tone(440, 8)
    frames = pcm.reshape(-1, FRAME_SAMPLES)
    chunks = [chunk for frame in frames for chunk in ear.hear(frame)]
    assert np.array_equal(np.concatenate(chunks), through(pcm)[: len(chunks) * 512])
    assert ear.n_heard == len(chunks) * 512


def test_the_ring_gives_back_the_latest_minute() -> None:
    ear = Ear()
    for i in range(900):
        for _ in ear.hear(np.full(FRAME_SAMPLES, i / 1_000, np.float32)):
            pass
    assert ear.since(0).size == KEPT_SAMPLES
    last = ear.since(ear.n_heard - 512)
    assert last.size == 512
    assert last[-1] == pytest.approx(0.899, abs=0.01)
    assert ear.since(ear.n_heard).size == 0
