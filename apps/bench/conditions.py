"""Bench of poor lines: what a telephone, loss, noise or distance cost in words and in time."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from apps.bench.questions import Question, speak
from apps.session import Session, TurnLog, cleared
from edge.errors import MissingPackageError
from edge.frame import SAMPLE_RATE_HZ
from edge.resample import Resampler
from edge.wav import WavWriter
from runtime.models.asr import Recogniser
from runtime.models.tts import Voice
from runtime.sound.files import FilePort
from runtime.sound.lines import CONDITIONS, degrade
from runtime.trace import Trace

_EAR_RATE_HZ = 16_000


def run_conditions(
    session: Session,
    voice: Voice,
    recogniser: Recogniser,
    questions: Sequence[Question],
    folder: Path,
    told: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Ask every question over every line.

    offline_wer: the recogniser's word errors on the whole degraded file. live_wer: those of the
    turns in a conversation on the same file. The difference is what the loop itself loses.
    """
    report: dict[str, Any] = {}
    for name in CONDITIONS:
        said, offline, live, latency = [], [], [], []
        for seed, question in enumerate(questions):
            sound = degrade(name, speak(voice, question)[0], seed=seed)
            said.append(plain(question.text))
            heard = Resampler(SAMPLE_RATE_HZ, _EAR_RATE_HZ).push(sound, last=True)
            offline.append(plain(recogniser.transcribe(heard).text))
            turns = _converse(session, sound, folder / f"{name}-{question.name}.wav")
            live.append(plain(turns[-1]["user"] if turns else ""))
            latency += [turn["latency_ms"]["total"] for turn in turns]
        row = {
            "offline_wer": round(_wer(said, offline), 3),
            "live_wer": round(_wer(said, live), 3),
            "answered": sum(bool(words) for words in live),
            "questions": len(said),
            "latency_p50_ms": round(float(np.median(latency)), 1) if latency else None,
        }
        report[name] = row
        if told:
            told({"line": name, **row})
    return report


def plain(text: str) -> str:
    """Lower-case words without marks, as word errors are counted."""
    return " ".join(re.findall(r"[a-z0-9']+", text.lower())) or "<nothing>"


def _converse(session: Session, sound: Any, path: Path) -> list[dict[str, Any]]:
    with WavWriter(path) as writer:
        writer.write(sound)
    log = TurnLog()
    port = cleared(session.config.audio, FilePort([path], session.clock), echo=False)
    session.talk(port, trace=Trace(), log=log)
    return log.turns


def _wer(said: list[str], heard: list[str]) -> float:
    try:
        import jiwer
    except ImportError as error:
        raise MissingPackageError("jiwer", extra="quant", needed_for="counting words") from error
    return float(jiwer.wer(said, heard))
