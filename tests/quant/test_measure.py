"""Statistics, gates, speech, workers, metrics: what a measurement must get right by itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge.errors import ConfigError, EdgeError, UsageError
from edge.wav import WavWriter
from quant.measure.ears import WAIVABLE
from quant.measure.gates import (
    COMPACT,
    STANDS_ON,
    TABLES,
    TRANSPARENT,
    Margin,
    judge,
    load_margins,
    overall,
    reasons,
)
from quant.measure.result import judged
from quant.measure.speech import check_disjoint, read_speech
from quant.measure.stats import bootstrap, ratio, summarise
from quant.measure.workers import work
from quant.quality import waves

RNG = np.random.default_rng(0)


def voice(seconds: float = 1.0, rate_hz: int = 16_000, pitch_hz: float = 120.0) -> np.ndarray:
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    loud = np.clip(np.sin(2 * np.pi * 2 * t), 0, 1)
    pcm = sum(np.sin(2 * np.pi * k * pitch_hz * t) / k for k in range(1, 20)) * loud * 0.1
    return (pcm + RNG.normal(0, 1e-4, len(t))).astype(np.float32)


def spread(values: np.ndarray, n_speakers: int = 10) -> tuple[dict[str, float], dict[str, str]]:
    names = [f"u{i:03d}" for i in range(len(values))]
    return (
        dict(zip(names, map(float, values), strict=True)),
        {name: f"s{i % n_speakers}" for i, name in enumerate(names)},
    )


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(60):
        found = summarise(*spread(rng.normal(0.3, 1, 60), 30))
        inside += found.low90 <= 0.3 <= found.high90
    assert 0.75 < inside / 60 < 0.99


def test_clips_of_one_speaker_are_no_independent_evidence() -> None:
    values = np.repeat(np.random.default_rng(2).normal(size=6), 10)
    speakers = [f"s{i // 10}" for i in range(60)]
    clustered = np.std(bootstrap(values, speakers, seed=0))
    alone = np.std(bootstrap(values, [f"s{i}" for i in range(60)], seed=0))
    assert clustered > 2 * alone
    assert summarise(*spread(values)) == summarise(*spread(values))


def test_a_rate_is_over_all_words_and_not_over_clips() -> None:
    wrong, total = {"a": 1.0, "b": 0.0}, {"a": 2.0, "b": 98.0}
    found = ratio(wrong, total, {"a": "x", "b": "y"})
    assert found.mean == pytest.approx(0.01)
    assert found.worst5 == 0.5


@pytest.mark.parametrize(
    ("centre", "spread_", "n", "speakers", "verdict"),
    [
        (4.6, 0.01, 40, 10, "pass"),
        (4.2, 0.01, 40, 10, "fail"),
        (4.4, 0.3, 40, 10, "inconclusive"),
        (4.6, 0.01, 12, 10, "inconclusive"),
        (4.6, 0.01, 40, 4, "inconclusive"),
        (2.0, 0.01, 8, 4, "fail"),
    ],
)
def test_a_gate_passes_what_is_shown_and_nothing_else(
    centre: float, spread_: float, n: int, speakers: int, verdict: str
) -> None:
    values = np.random.default_rng(3).normal(centre, spread_, n)
    found = judge("pesq", TRANSPARENT["pesq"], summarise(*spread(values, speakers)))
    assert found.verdict == verdict


def test_a_gate_for_what_must_be_small_is_the_mirror_image() -> None:
    values = np.random.default_rng(4).normal(0.5, 0.01, 40)
    found = summarise(*spread(values), higher_is_better=False)
    assert judge("mel_db", Margin(1.0, 4.0, at_least=False), found).verdict == "pass"
    assert judge("mel_db", Margin(0.4, 4.0, at_least=False), found).verdict == "fail"
    assert judge("mel_db", Margin(0.1, 0.2, at_least=False), found).verdict == "fail"


def test_what_was_not_measured_is_no_pass_unless_it_was_given_up() -> None:
    fine = summarise(*spread(np.full(40, 4.6)))
    wanted = ("pesq", "visqol_change", "wer_change")
    found = {"pesq": fine}
    gates = judged(found, TRANSPARENT, wanted, missing={"visqol": "the package is not here"})
    assert [gate.verdict for gate in gates] == ["pass", "not measured", "not measured"]
    assert overall(gates) == "inconclusive"
    assert reasons(gates, "inconclusive") == [
        "visqol_change: the package is not here",
        "wer_change: no figures",
    ]
    gates = judged(found, TRANSPARENT, wanted, ("visqol", "words"))
    assert [gate.verdict for gate in gates] == ["pass", "waived", "waived"]
    assert (overall(gates), reasons(gates, "pass")) == ("pass", [])
    assert overall(judged(found, TRANSPARENT, wanted, ("visqol",))) == "inconclusive"
    assert overall(judged(found, TRANSPARENT, wanted[:1], ("pesq",))) == "inconclusive"
    assert set(STANDS_ON) == set(WAIVABLE)


def test_margins_are_ordered_and_can_be_changed(tmp_path: Path) -> None:
    for name in TRANSPARENT:
        strict, loose = TRANSPARENT[name], COMPACT[name]
        sign = 1 if strict.at_least else -1
        assert sign * strict.limit >= sign * loose.limit >= sign * loose.hard
    path = tmp_path / "margins.toml"
    path.write_text("[pesq]\nlimit = 3.9\n")
    assert load_margins("compact", path)["pesq"] == Margin(3.9, 3.5, at_least=True)
    assert load_margins("compact", None) == dict(TABLES["compact"])
    path.write_text("[pesk]\nlimit = 3.9\n")
    with pytest.raises(ConfigError, match="unknown metric pesk; did you mean pesq"):
        load_margins("compact", path)
    path.write_text('[pesq]\nlimit = "3.9"\n')
    with pytest.raises(ConfigError, match="takes limit and hard, two numbers"):
        load_margins("compact", path)
    with pytest.raises(UsageError, match="unknown gates 'strict'"):
        load_margins("strict", None)


def write_clip(path: Path, pcm: np.ndarray) -> None:
    with WavWriter(path) as writer:
        writer.write(pcm.astype(np.float32))


def test_speech_is_what_its_manifest_says(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_clip(tmp_path / f"{name}.wav", voice(rate_hz=24_000, pitch_hz=100 + ord(name)))
    found = read_speech(tmp_path)
    assert [one.name for one in found.utterances] == ["a", "b"]
    table = tmp_path / "manifest.tsv"
    head = "file\tspeaker\ttranscript\tsource\tsha256\n"
    table.write_text(f"{head}a.wav\tx\tHello.\tsynthesised\t{found.utterances[0].sha256}\n")
    listed = read_speech(tmp_path)
    assert (listed.synthetic, listed.utterances[0].text) == (True, "Hello.")
    with pytest.raises(UsageError, match="1 of the clips, a among them, were used for calibration"):
        check_disjoint(listed, [found.utterances[0].sha256])
    check_disjoint(listed, [found.utterances[1].sha256])
    table.write_text(f"{head}a.wav\tx\t\t\t{'0' * 64}\n")
    with pytest.raises(UsageError, match="its sha256 differs"):
        read_speech(tmp_path)
    table.write_text(f"{head}c.wav\tx\t\t\t\n")
    with pytest.raises(UsageError, match="which is not there"):
        read_speech(tmp_path)
    table.write_text("file\na.wav\n")
    with pytest.raises(UsageError, match="column speaker is missing"):
        read_speech(tmp_path)
    with pytest.raises(UsageError, match="is no folder"):
        read_speech(tmp_path / "nothing")


def test_what_cannot_be_measured_says_why() -> None:
    assert waves.fault(np.zeros(100, np.float32)) == "silent"
    assert (waves.fault(np.clip(voice() * 100, -1, 1)) or "").startswith("clipped")
    assert waves.fault(voice()) is None


def test_no_difference_is_no_difference() -> None:
    pcm = voice()
    assert waves.si_sdr_db(pcm, pcm) == pytest.approx(120)
    assert waves.mel_distance_db(pcm, pcm, 16_000) == 0
    assert waves.si_sdr_db(pcm, pcm * np.float32(0.5)) == pytest.approx(120)


def test_si_sdr_is_the_ratio_of_what_was_mixed() -> None:
    pcm = voice()
    noise = RNG.normal(size=len(pcm))
    noise -= (noise @ pcm) / (pcm @ pcm) * pcm
    noise *= np.sqrt((pcm @ pcm) / (noise @ noise)) * 10 ** (-20 / 20)
    assert waves.si_sdr_db(pcm, (pcm + noise).astype(np.float32)) == pytest.approx(20, abs=0.01)


def test_hiss_in_pauses_is_found_where_nothing_else_finds_it() -> None:
    pcm = voice()
    hiss = RNG.normal(0, np.abs(pcm).max() * 10 ** (-45 / 20), len(pcm)).astype(np.float32)
    rise = waves.pause_floor_db(pcm + hiss, 16_000) - waves.pause_floor_db(pcm, 16_000)
    assert rise > 10


@pytest.mark.parametrize("pitch_hz", [85.0, 120.0, 210.0])
def test_pitch_is_heard(pitch_hz: float) -> None:
    assert waves.median_pitch_hz(voice(pitch_hz=pitch_hz), 16_000) == pytest.approx(
        pitch_hz, rel=0.02
    )


def test_mel_filters_cover_every_line_once() -> None:
    filters = waves.mel_filters(16_000, 400, 40)
    assert filters.shape == (40, 201)
    assert (filters >= 0).all()
    assert (filters.sum(axis=1) > 0).all()


def twice(offset: int) -> Callable[[int], int]:
    return lambda job: 2 * job + offset


def dies_once(folder: str) -> Callable[[int], int]:
    def handle(job: int) -> int:
        mark = Path(folder) / str(job)
        if job == 3 and not mark.exists():
            mark.touch()
            os._exit(9)
        return job

    return handle


def dies_always(_folder: str) -> Callable[[int], int]:
    return lambda _job: os._exit(9)  # type: ignore[return-value]


def complains(_folder: str) -> Callable[[int], int]:
    def handle(job: int) -> int:
        raise UsageError(f"job {job} is wrong")

    return handle


@pytest.mark.parametrize("n_workers", [0, 2])
def test_every_job_is_done_once(n_workers: int) -> None:
    found = dict(work(twice, (1,), list(range(6)), n_workers=n_workers))
    assert found == {i: 2 * i + 1 for i in range(6)}


def test_a_lost_worker_loses_no_job(tmp_path: Path) -> None:
    found = dict(work(dies_once, (str(tmp_path),), list(range(6)), n_workers=2))
    assert found == {i: i for i in range(6)}
    with pytest.raises(EdgeError, match="died twice"):
        list(work(dies_always, (str(tmp_path),), [1, 2], n_workers=1))
    with pytest.raises(EdgeError, match="is wrong"):
        list(work(complains, (str(tmp_path),), [1, 2], n_workers=1))
