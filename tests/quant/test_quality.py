"""The networks that judge sound give the figures of the tools they were published with."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.store import ModelStore
from quant.quality.mos import Dnsmos, Plcmos
from quant.quality.speaker import SpeakerNet

RATE_HZ = 16_000


def hum(seconds: float, pitch_hz: float = 120.0) -> NDArray[np.float32]:
    """Something like a voice, the same wherever it is made."""
    n = np.arange(int(seconds * RATE_HZ))
    t = n / RATE_HZ
    turns = (pitch_hz + 20 * np.sin(3 * t)) * t
    pcm = sum(np.sin(2 * np.pi * k * turns) / k for k in range(1, 20))
    pcm = pcm * np.clip(np.sin(4 * np.pi * t), 0, 1) * 0.1 + np.sin(7919 * n**1.5) * 1e-3
    return np.asarray(pcm, np.float32)


# As speechmos 0.0.1.1 says of the same sounds; PLCMOS draws its raters anew with every call there.
PUBLISHED = {
    3.2: (2.0764591, 2.8885078, 2.859),
    8.6: (2.5416991, 3.6711128, 2.203),
}


@pytest.mark.parametrize("seconds", PUBLISHED)
def test_scores_are_those_of_the_published_tool(quality_models: ModelStore, seconds: float) -> None:
    overall, p808, plc = PUBLISHED[seconds]
    found = Dnsmos(quality_models.files("dnsmos")).score(hum(seconds))
    assert found == pytest.approx((overall, p808), abs=1e-4)
    mean = Plcmos(quality_models.files("plcmos")).score(hum(seconds))
    assert mean == pytest.approx(plc, abs=0.15)


def test_a_voice_is_like_itself_and_less_like_another(quality_models: ModelStore) -> None:
    net = SpeakerNet(quality_models.files("ge2e-speaker"))
    assert net.similarity(hum(3), hum(3)) == pytest.approx(1)
    assert net.similarity(hum(3), hum(3, pitch_hz=210)) < 0.95
