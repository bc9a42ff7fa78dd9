"""The whole assistant through a real PortAudio device: it hears a question and answers aloud."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from apps.bench.questions import Question, write_questions
from edge.resample import Resampler
from edge.store import ModelStore
from runtime.models.asr import Recogniser
from runtime.models.tts import Voice
from tests.live.virtual_sound import VirtualSound

pytestmark = [pytest.mark.live, pytest.mark.real]

ROOT = Path(__file__).resolve().parents[2]
_READY_S = 60
_ANSWER_S = 30


@dataclass
class Talking:
    """A running `edge talk`."""

    process: subprocess.Popen[str]
    sound: VirtualSound

    def wait_until_it_listens(self) -> None:
        give_up = time.monotonic() + _READY_S
        while "PortAudio" not in self.sound.pactl("list", "source-outputs") and (
            "ALSA" not in self.sound.pactl("list", "source-outputs")
        ):
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            assert time.monotonic() < give_up, "edge talk does not open the microphone"
            time.sleep(0.1)
        time.sleep(1.0)

    def end(self) -> dict[str, Any]:
        """Ctrl-C, the ordinary end of a live conversation; what it reports."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, err
        report: dict[str, Any] = json.loads(out)
        return report


@contextmanager
def talking(sound: VirtualSound, *args: str) -> Iterator[Talking]:
    command = [sys.executable, "-m", "apps.cli", "talk", "--json", *args]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=sound.env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            running = Talking(process, sound)
            running.wait_until_it_listens()
            yield running
        finally:
            process.kill()


def spoken(store: ModelStore, folder: Path, *questions: Question) -> list[Path]:
    voice = Voice(store.files("hibari-heart"))
    return [path for _, path, _ in write_questions(voice, folder, questions)]


def loud_spans(path: Path) -> list[tuple[float, float]]:
    """Where a recording is audible, as (begin, end) in seconds; gaps under 0.3 s are joined."""
    pcm, rate_hz = soundfile.read(path, dtype="float32")
    block = rate_hz // 50
    loud = np.abs(pcm[: len(pcm) // block * block]).reshape(-1, block).max(axis=1) > 0.01
    spans: list[tuple[float, float]] = []
    for i in np.flatnonzero(loud):
        begin, end = i / 50, (i + 1) / 50
        if spans and begin - spans[-1][1] < 0.3:
            spans[-1] = spans[-1][0], end
        else:
            spans.append((begin, end))
    return spans


def words_in(store: ModelStore, path: Path) -> str:
    pcm, rate_hz = soundfile.read(path, dtype="float32")
    first, last = loud_spans(path)[0][0], loud_spans(path)[-1][1]
    part = np.ascontiguousarray(pcm[int(max(0, first - 0.2) * rate_hz) : int(last * rate_hz)])
    heard = Resampler(rate_hz, 16_000).push(part, last=True)
    return Recogniser(store.files("whisper-tiny.en")).transcribe(heard).text.lower()


def test_a_spoken_question_is_answered_aloud(
    sound: VirtualSound, starter_models: ModelStore, tmp_path: Path
) -> None:
    (question,) = spoken(
        starter_models, tmp_path, Question("q", ("What is the capital of France?",), "paris")
    )
    heard = tmp_path / "speaker.wav"
    with talking(sound) as edge, sound.record_speaker(heard):
        sound.play_into_microphone(question)
        give_up = time.monotonic() + _ANSWER_S
        while time.monotonic() < give_up and not (heard.exists() and _has_answer(heard)):
            time.sleep(0.5)
        report = edge.end()
    assert "paris" in words_in(starter_models, heard)
    (turn,) = report["turns"]
    assert "france" in turn["user"].lower()
    assert "Paris" in turn["reply"]
    assert report["frames"]["count"] > 50


def _has_answer(path: Path) -> bool:
    """Something was said, and it has been quiet for a second since."""
    try:
        spans = loud_spans(path)
        seconds = soundfile.info(path).duration
    except (soundfile.LibsndfileError, ValueError):
        return False
    return bool(spans) and seconds - spans[-1][1] > 1.0
