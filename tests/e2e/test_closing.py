"""Conversations that end while the workers are busy: the models are not touched afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from apps.session import Session, open_session, opening_context
from edge.config import Config
from edge.errors import ConfigError
from edge.frame import FRAME_SAMPLES, Frame, Pcm, silence
from edge.store import ModelStore
from runtime.engines.engine import Context
from runtime.models.tts import Voice

pytestmark = pytest.mark.real

_PAUSE_FRAMES = 25


@pytest.fixture(scope="module")
def session(starter_models: ModelStore) -> Iterator[Session]:
    assert starter_models
    opened = open_session(Config())
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def question(starter_models: ModelStore) -> Pcm:
    """A question and two seconds of silence, in whole frames."""
    voice = Voice(starter_models.files("hibari-heart"))
    pcm = voice.speak("Can you tell me what the capital of France is?", seed=1).pcm
    n_frames = -(-len(pcm) // FRAME_SAMPLES) + _PAUSE_FRAMES
    return np.concatenate([pcm, np.zeros(n_frames * FRAME_SAMPLES - len(pcm), np.float32)])


def hold(session: Session, pcm: Pcm, n_frames: int) -> int:
    """Feed n_frames as fast as the engine steps, then hang up; how many replies had begun."""
    engine = session.engine
    state = engine.start(seed=0, context=opening_context(session.config))
    n_begun = 0
    for index in range(n_frames):
        part = pcm[index * FRAME_SAMPLES : (index + 1) * FRAME_SAMPLES]
        frame = Frame(index, session.clock.now_ns(), part if len(part) else silence())
        state, reply = engine.step(state, frame)
        n_begun += sum(event.kind == "reply_started" for event in reply.events)
    engine.finish(state)
    return n_begun


def test_hanging_up_at_any_moment_hurts_nobody(session: Session, question: Pcm) -> None:
    """While it is recognised, thought about, written or spoken: the workers are a second behind."""
    n_spoken = len(question) // FRAME_SAMPLES - _PAUSE_FRAMES
    for n_quiet in (4, 16, 30, 60, 100, 150, 200, 260, 330, 400, 500, 600):
        hold(session, question, n_spoken + n_quiet)
    last = session.engine.start(seed=0, context=Context())
    while not session.engine.idle(last):  # what the others left undone
        time.sleep(0.01)
    session.engine.finish(last)
    assert session.failures == []


def test_the_next_conversation_is_answered(session: Session, question: Pcm) -> None:
    n_spoken = len(question) // FRAME_SAMPLES - _PAUSE_FRAMES
    hold(session, question, n_spoken + 9)
    n_quiet = 500  # silence goes by in a few milliseconds a frame: wait longer until it is enough
    while not (begun := hold(session, question, n_spoken + n_quiet)) and n_quiet < 50_000:
        n_quiet *= 4
    assert begun == 1
    assert session.failures == []


def test_a_prompt_beyond_the_budget_is_refused_with_the_way_out(session: Session) -> None:
    with pytest.raises(ConfigError, match="shorten the prompt or raise the budget"):
        session.engine.start(seed=0, context=Context(prompt="Be kind. " * 400))
