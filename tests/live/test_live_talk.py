"""The whole assistant through a real PortAudio device: it hears a question and answers aloud."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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


def _has_answer(path: Path, *, after_s: float = 0.0) -> bool:
    """Something was said, and it has been quiet for a second since."""
    spans = [span for span in _spans(path) if span[1] > after_s]
    return bool(spans) and soundfile.info(path).duration - spans[-1][1] > 1.5


def _said_s(path: Path) -> float:
    """From the first audible sample so far to the last, in seconds."""
    spans = _spans(path)
    return spans[-1][1] - spans[0][0] if spans else 0.0


def test_talking_over_the_reply_stops_it_and_is_answered(
    sound: VirtualSound, starter_models: ModelStore, tmp_path: Path
) -> None:
    story, japan = spoken(
        starter_models,
        tmp_path,
        Question("story", ("Tell me a long story about a dragon and a castle.",), ""),
        Question("over", ("No, tell me what is the capital of Japan?",), "tokyo"),
    )
    said, heard = tmp_path / "microphone.wav", tmp_path / "speaker.wav"
    with (
        talking(sound, "--explain") as edge,
        sound.record_speaker(heard),
        sound.record_microphone(said),
    ):
        sound.play_into_microphone(story)
        _wait(lambda: _said_s(heard) > 1.5, "no reply to the story")
        sound.play_into_microphone(japan)
        asked_s = soundfile.info(heard).duration
        _wait(lambda: _has_answer(heard, after_s=asked_s), "no second reply")
        report = edge.end()
    first, last = report["turns"][0], report["turns"][-1]
    assert first["interrupted"] is True, report["turns"]
    assert last["interrupted"] is False, report["turns"]
    assert "japan" in last["user"].lower()
    began_s = loud_spans(said)[1][0]
    silent_s = next(end for _, end in loud_spans(heard) if end > began_s)
    print(f"interruption to silence: {1000 * (silent_s - began_s):.0f} ms")
    assert silent_s < began_s + 2.0


def _spans(path: Path) -> list[tuple[float, float]]:
    """What has been recorded so far; nothing if the file has only begun."""
    try:
        return loud_spans(path)
    except (soundfile.LibsndfileError, ValueError):
        return []


def _wait(happened: Callable[[], bool], otherwise: str) -> None:
    give_up = time.monotonic() + _ANSWER_S
    while not happened():
        assert time.monotonic() < give_up, otherwise
        time.sleep(0.2)
