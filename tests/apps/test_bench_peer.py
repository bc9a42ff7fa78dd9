"""Another framework as a peer: what its answers are made into, and what is said where it is not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from apps.bench.peer import run_peer, summary
from apps.bench.talk import Asked
from edge.config import Config
from edge.errors import UsageError
from edge.store import ModelStore


@pytest.mark.real
def test_a_python_without_it_is_refused_with_the_reason(
    starter_models: ModelStore, tmp_path: Path
) -> None:
    """This Python has no pipecat: the process really starts and really ends."""
    item = Asked("france", tmp_path / "never_read.wav", 1.0)
    with pytest.raises(UsageError, match=r"pipecat did not run under .*pipecat"):
        run_peer("pipecat", Path(sys.executable), Config(), starter_models, [item])


def test_only_answers_after_the_question_count_as_its_latency() -> None:
    answer = {"first_audible_s": 3.0, "cpu_s": 1.0, "turns": 1}
    rows = [
        {**answer, "after_end_ms": 700.0, "half_answered": False, "right": True},
        {**answer, "after_end_ms": 900.0, "half_answered": False, "right": False},
        {**answer, "after_end_ms": -400.0, "half_answered": True, "turns": 2},
        {**answer, "first_audible_s": None, "turns": 0},
    ]
    found = summary(rows)
    assert found["after_end_ms"] == {"p50": 800.0, "p95": 890.0}
    assert (found["questions"], found["answered"], found["half_answered"]) == (4, 3, 1)
    assert (found["in_several_turns"], found["right"], found["cpu_s"]) == (1, 1, 4.0)
