"""Bench of whole conversations: end of speech to the first audible sample, stage by stage."""

from __future__ import annotations

import re
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from apps.bench.quantiles import quantiles
from apps.bench.questions import Question
from apps.session import Session, TurnLog, cleared
from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Frame, Pcm, Reply
from runtime.engines.facts import stream_s
from runtime.sound.files import FilePort
from runtime.sound.port import AudioPort
from runtime.trace import Trace

STAGES = ("end_of_turn", "asr", "llm_first", "tts_first", "output", "total")


@dataclass(frozen=True, slots=True)
class Asked:
    """One spoken question. end_s: where its speech ends in the file; None if that is not known."""

    name: str
    path: Path
    end_s: float | None
    fact: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Recording:
    """What one conversation sounded like: both sides float32 24 kHz, and its events with times.

    events: (seconds, kind, why). stages: what the workers did, (began, ended, name), seconds.
    """

    user: Pcm
    reply: Pcm
    events: tuple[tuple[float, str, str], ...]
    stages: tuple[tuple[float, float, str], ...]


class Recorder:
    """Keeps what a session hears, says and does; real time only."""

    def __init__(self) -> None:
        self._heard: list[Pcm] = []
        self._said: list[Pcm] = []
        self.marks: list[tuple[float, str, str]] = []
        self._stages: list[tuple[float, float, str]] = []

    def observe(self, frame: Frame, reply: Reply) -> None:
        """Take what was heard and said in a frame."""
        self._heard.append(frame.pcm)
        self._said.append(reply.pcm)
        at_s = (frame.index + 1) * FRAME_SAMPLES / SAMPLE_RATE_HZ
        for event in reply.events:
            facts = event.facts
            if event.kind == "stage":
                began, ended = (
                    stream_s(frame, cast("int", facts[key])) for key in ("began_ns", "ended_ns")
                )
                self._stages.append((began, ended, str(facts["name"])))
            else:
                self.marks.append((at_s, event.kind, str(facts.get("why", ""))))

    def recording(self) -> Recording:
        """All of it so far."""
        pcm = np.concatenate(self._heard), np.concatenate(self._said)
        return Recording(*pcm, tuple(self.marks), tuple(self._stages))


def asked(question: Question, path: Path, end_s: float) -> Asked:
    """A synthesised question as a bench item."""
    return Asked(question.name, path, end_s, question.fact, question.text)


def ask(
    session: Session,
    item: Asked,
    trace: Trace,
    behind: Callable[[AudioPort], AudioPort] = lambda port: port,
) -> tuple[dict[str, Any], Recording]:
    """Hold a conversation of one question; the row of the table and what it sounded like.

    behind: puts something behind the user's voice.
    """
    log, recorder = TurnLog(), Recorder()
    cpu = time.process_time()
    port = behind(FilePort([item.path], session.clock))
    clear = cleared(session.config.audio, port, echo=False)
    session.talk(clear, trace=trace, log=log, also=recorder.observe)
    row: dict[str, Any] = {
        "question": item.name,
        "cpu_s": round(time.process_time() - cpu, 2),
        "turns": len(log.turns),
        "user": " | ".join(t["user"] for t in log.turns),
        "reply": " | ".join(t["reply"] for t in log.turns),
    }
    if log.turns:
        row["latency_ms"] = log.turns[-1]["latency_ms"]
        if item.end_s is not None:
            row["after_end_ms"] = round((log.turns[-1]["reply_start_s"] - item.end_s) * 1e3, 1)
        row["right"] = (
            bool(re.search(item.fact, row["reply"], re.IGNORECASE)) if item.fact else None
        )
    ended = [at for at, kind, _ in recorder.marks if kind == "user_ended"]
    row["cut_off"] = item.end_s is not None and any(at < item.end_s for at in ended)
    row["replies_cut"] = sum(bool(t["interrupted"]) for t in log.turns)
    row["half_answered"] = item.end_s is not None and any(
        t["reply_start_s"] < item.end_s for t in log.turns
    )
    return row, recorder.recording()


def run_bench(
    sessions: dict[str, Session],
    items: Sequence[Asked],
    told: Callable[[str, dict[str, Any]], None] | None = None,
    behind: Callable[[AudioPort], AudioPort] = lambda port: port,
) -> tuple[dict[str, Any], dict[str, Recording]]:
    """Ask every question of every session, interleaved, in real time.

    behind: puts something behind the user's voice, anew in each conversation.

    Returns the report (one entry a session) and one recording of each session, that of a question
    with a pause in it where there is one.
    """
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in sessions}
    traces = {name: Trace() for name in sessions}
    kept: dict[str, Recording] = {}
    for item in items:
        for name, session in sessions.items():
            row, recording = ask(session, item, traces[name], behind)
            rows[name].append(row)
            if told:
                told(name, row)
            if name not in kept or "," in item.text or row["turns"] > 1:
                kept[name] = recording
    report = {name: summarise(rows[name], traces[name]) for name in sessions}
    return report, kept


def summarise(rows: Sequence[dict[str, Any]], trace: Trace) -> dict[str, Any]:
    """Quantiles by stage, counts of what went wrong, and every row.

    latency_ms counts from where the assistant heard the user's last sound; after_end_ms from where
    the question's last sound really is, where that is known.
    """
    answered = [row for row in rows if "latency_ms" in row]
    latency = {stage: quantiles([row["latency_ms"][stage] for row in answered]) for stage in STAGES}
    judged = [row["right"] for row in answered if row["right"] is not None]
    return {
        "questions": len(rows),
        "answered": len(answered),
        "latency_ms": latency,
        "after_end_ms": quantiles([r["after_end_ms"] for r in answered if "after_end_ms" in r]),
        "cut_off": sum(row["cut_off"] for row in rows),
        "half_answered": sum(row["half_answered"] for row in rows),
        "replies_cut": sum(row["replies_cut"] for row in rows),
        "right": sum(judged),
        "cpu_s": round(sum(row["cpu_s"] for row in rows), 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        **trace.summary(),
        "rows": list(rows),
    }


def sequential(session_config: Any) -> Any:
    """The configuration of a plain sequential loop: fixed silence, nothing prepared ahead."""
    return replace(session_config, turns=replace(session_config.turns, policy="fixed", ahead=False))
