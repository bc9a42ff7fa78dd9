"""The miniature's own voice comes back past any canceller: it is kept out, the user is heard."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from apps.mini import shipped_model
from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Frame, Pcm, silence
from edge.wav import read_mono
from runtime.engines.duplex import DuplexEngine, DuplexOptions, open_duplex
from runtime.engines.engine import Context

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("llama_cpp", "onnxruntime")),
    reason="needs what the extra duplex brings",
)
QUESTION = Path(__file__).resolve().parents[2] / "apps" / "assets" / "question.flac"
MOST_QUESTIONS, LATE_FRAMES, FACTOR = 8, 2, np.float32(0.5)


def asked() -> Pcm:
    """The question's end and three seconds of silence, (n, 1920).

    The whole question is answered with one word, and one word says too little of its way back.
    """
    whole = read_mono(QUESTION, SAMPLE_RATE_HZ)
    spoken = whole[int(0.65 * len(whole)) :]
    n_frames = -(-len(spoken) // FRAME_SAMPLES) + 38
    padded = np.zeros(n_frames * FRAME_SAMPLES, np.float32)
    padded[: len(spoken)] = spoken
    return padded.reshape(-1, FRAME_SAMPLES)


@pytest.fixture
def engine() -> DuplexEngine:
    return open_duplex(shipped_model(), options=DuplexOptions(own_voice=True, duck_db=-12.0))


def test_its_own_voice_is_kept_out_and_the_user_is_not(
    engine: DuplexEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its way is found within some replies; the next question is asked with the way known."""
    heard: list[Pcm] = []
    encode = engine.codec.encode

    def note(ear: object, pcm: Pcm) -> object:
        heard.append(pcm)
        return encode(ear, pcm)

    monkeypatch.setattr(engine.codec, "encode", note)
    state = engine.start(seed=1, context=Context())
    line, reasons = [silence()] * LATE_FRAMES, []
    index = n_known = 0
    for _ in range(MOST_QUESTIONS):
        assert state.own is not None
        n_known += state.own.way is not None
        if n_known == 2:
            break
        first, echoes = index, []
        for user in asked():
            echoes.append(line.pop(0) * FACTOR)
            state, reply = engine.step(state, Frame(index, 0, user + echoes[-1]))
            line.append(reply.pcm)
            reasons += [event.facts["why"] for event in reply.events if event.kind == "own_voice"]
            index += 1
    engine.finish(state)
    engine.close()
    assert n_known == 2, "no way was found"
    assert len(reasons) == 1
    assert "its own voice comes back after" in str(reasons[0])
    user, last = asked(), np.array(heard[first:])
    alone = ~user.any(axis=1)
    echo = np.array(echoes)[alone]
    assert np.sqrt(np.mean(echo**2)) > 1e-3  # it did speak
    assert np.mean(last[alone] ** 2) < 0.1 * np.mean(echo**2)
    spoken = np.abs(user) > 0.01
    assert np.mean(last[spoken] != 0) > 0.9
