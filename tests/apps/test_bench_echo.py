"""The echo bench on the starter models: short, but every part of what the whole one reports."""

from __future__ import annotations

import pytest

from apps.bench.echo import EchoPlan, run_echo
from edge.store import ModelStore
from runtime.models.tts import Voice
from runtime.models.vad import Vad

pytestmark = pytest.mark.real

PLAN = EchoPlan((40.0,), (120.0,), minutes=0.3, n_sentences=4, n_interrupts=1)


def test_the_assistant_s_own_voice_is_not_taken_for_a_talker(starter_models: ModelStore) -> None:
    voice = Voice(starter_models.files("hibari-heart"))
    vad = Vad(starter_models.files("silero-vad-6.2"))
    report = run_echo(voice, vad, plan=PLAN)
    assert report["passed"]
    assert report["self_interruptions"] == 0
    assert report["worst_alone_percent"] < 2
    for trial in report["trials"]:
        assert trial["raw_percent"] > 50, "without the canceller it would be taken for one"
        assert trial["erle_db"] > 20
        assert trial["median_onset_chunks"] <= 5, "and a talker over it is noticed"
