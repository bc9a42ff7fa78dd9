"""The larger models of models.lock in the whole loop; each runs where it was fetched by name.

edge models fetch whisper-base qwen2.5-coder-0.5b-instruct kokoro-82m-ja
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import apps.cli.talk
from apps.session import TurnLog, cleared, open_session
from edge.config import Config, ModelsConfig
from edge.frame import Frame, Pcm, Reply
from edge.store import ModelStore
from runtime.models.kokoro import read_style
from runtime.sound.files import FilePort
from runtime.trace import Trace

pytestmark = pytest.mark.real
QUESTION = Path(apps.cli.talk.__file__).parents[1] / "assets" / "question.flac"


@pytest.mark.parametrize(
    ("role", "name"),
    [
        ("asr", "whisper-base"),
        ("llm", "qwen2.5-coder-0.5b-instruct"),
        ("tts", "kokoro-82m-ja"),
    ],
)
def test_a_larger_model_takes_its_place_in_the_loop(
    starter_models: ModelStore, role: str, name: str
) -> None:
    if set(starter_models.status(name, hashed=False).values()) != {"present"}:
        pytest.skip(f"{name} was not fetched: edge models fetch {name}")
    config = Config(models=replace(ModelsConfig(), **{role: name}))
    session = open_session(config, "fast")
    said: list[Pcm] = []

    def listen(_frame: Frame, reply: Reply) -> None:
        said.append(reply.pcm)

    log = TurnLog()
    try:
        port = cleared(config.audio, FilePort([QUESTION], session.clock), echo=False)
        session.talk(port, trace=Trace(), log=log, also=listen)
    finally:
        session.close()
    assert log.turns
    assert "capital" in log.turns[0]["user"].lower()
    assert "Paris" in log.turns[0]["reply"]
    assert np.abs(np.concatenate(said)).max() > 0.05


def test_a_voice_is_read_by_its_name_and_an_unknown_one_is_refused_with_the_known(
    tmp_path: Path,
) -> None:
    from edge.errors import ModelDamagedError, UsageError

    path = tmp_path / "voices.npz"
    styles = np.arange(3 * 256, dtype=np.float32).reshape(3, 1, 256)
    np.savez(path, first=styles, second=2 * styles)
    assert np.array_equal(read_style(path, ""), styles)
    assert np.array_equal(read_style(path, "second"), 2 * styles)
    with pytest.raises(UsageError, match="first, second"):
        read_style(path, "third")
    path.write_bytes(b"no archive")
    with pytest.raises(ModelDamagedError):
        read_style(path, "")
