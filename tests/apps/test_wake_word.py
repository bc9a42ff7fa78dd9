"""The shipped phrase, said by the starter voice: it wakes, and other speech does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apps.bench.wake import NEAR, hear
from apps.session import TurnLog, cleared, open_session
from apps.wake import open_wake_word
from edge.config import Config, WakeConfig
from edge.frame import SAMPLE_RATE_HZ, Event
from edge.store import ModelStore
from edge.wav import WavWriter
from runtime.models.tts import Voice
from runtime.sound.files import FilePort
from runtime.trace import Trace

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def voice(starter_models: ModelStore) -> Voice:
    return Voice(starter_models.files("hibari-heart"))


def test_the_phrase_wakes_it_and_what_sounds_like_it_does_not(
    voice: Voice, wake_models: ModelStore
) -> None:
    model, threshold = open_wake_word(WakeConfig()), WakeConfig().threshold
    for seed in range(3):
        score, _ = hear(model, voice.speak("Hey assistant.", seed=seed).pcm, threshold)
        assert score >= threshold
    for text in NEAR:
        score, _ = hear(model, voice.speak(text, seed=1).pcm, threshold)
        assert score < threshold, text


def talk(folder: Path, voice: Voice, *texts: str) -> tuple[TurnLog, list[Event]]:
    """A whole conversation with the word in front: each text is a file of its own."""
    events: list[Event] = []
    log = TurnLog(told=events.append)
    session = open_session(Config(wake=WakeConfig(enabled=True)), "fast")
    paths = []
    for number, text in enumerate(texts):
        paths.append(folder / f"{number}.wav")
        lead = np.zeros(int(1.6 * SAMPLE_RATE_HZ), np.float32)
        with WavWriter(paths[-1]) as writer:
            writer.write(np.concatenate([lead, voice.speak(text, seed=1).pcm]))
    try:
        port: Any = FilePort(paths, session.clock)
        port = cleared(session.config.audio, port, echo=False)
        session.talk(port, trace=Trace(), log=log)
    finally:
        session.close()
    return log, events


def test_a_question_is_answered_only_after_the_phrase(
    tmp_path: Path, voice: Voice, wake_models: ModelStore
) -> None:
    unasked, asked = "How far away is the moon?", "Hey assistant! What is the capital of France?"
    log, events = talk(tmp_path, voice, unasked, asked, "How many legs has a spider?")
    kinds = [event.kind for event in events]
    assert kinds.count("woken") == 1
    assert "user_started" not in kinds[: kinds.index("woken")]
    assert len(log.turns) == 2  # the last needs no phrase: it comes within the time
    assert "france" in log.turns[0]["user"].lower()
