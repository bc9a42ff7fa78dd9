"""The ladder of bits: what counts as monotone, and what it says of two unequal sounds."""

from __future__ import annotations

import numpy as np
import pytest

from apps.mini_damage import _log_bands, monotone


def _rung(snr: float, mel: float, equal: float, text: float) -> dict[str, float]:
    return {"wave_snr_db": snr, "log_mel": mel, "codes_equal": equal, "text_kl": text}


def test_every_figure_must_get_worse_with_every_rung() -> None:
    ladder = [_rung(40, 0.01, 0.8, 0.001), _rung(20, 0.1, 0.3, 0.01), _rung(12, 0.3, 0.1, 0.1)]
    assert all(monotone(ladder).values())
    ladder[2] = _rung(21, 0.3, 0.1, 0.1)
    found = monotone(ladder)
    assert not found.pop("wave_snr_db")
    assert all(found.values())


@pytest.mark.parametrize("name", ["wave_snr_db", "log_mel", "codes_equal", "text_kl"])
def test_equal_rungs_are_not_monotone(name: str) -> None:
    assert not monotone([_rung(40, 0.1, 0.8, 0.1)] * 2)[name]


def test_twice_as_loud_is_log_two_apart() -> None:
    pcm = np.random.default_rng(0).standard_normal(24_000).astype(np.float32)
    apart = np.abs(_log_bands(2 * pcm) - _log_bands(pcm)).mean()
    assert apart == pytest.approx(np.log(2), rel=0.01)
