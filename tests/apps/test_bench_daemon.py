"""The bench of the daemon on a stand-in engine: what it counts is what there was."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apps.bench.daemon import DaemonPlan, grown_mb, run_daemon_soak
from apps.session import Session
from edge.config import Config
from edge.frame import FRAME_SAMPLES
from edge.history import History
from runtime.clock import FastClock
from tests.apps.daemon.daemon_world import Parrot

SOUNDS = [np.full(5 * FRAME_SAMPLES, 0.1, np.float32)]
FLAGS: dict[str, object] = {"history.enabled": True, "privacy.level": "off"}


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("b")
    monkeypatch.setenv("EDGE_DATA_DIR", str(folder))
    monkeypatch.setenv("EDGE_CONTROL_SOCKET", str(folder / "s"))
    return folder


def soak(plan: DaemonPlan, says: Callable[[], str] = lambda: "whole") -> dict[str, Any]:
    def opened(
        config: Config, _clock: str, _key: Callable[[], bool], hush: Callable[[], bool]
    ) -> Session:
        parrot = Parrot(hush, says)
        return Session(config, parrot, FastClock(lambda: False), [], lambda: None)

    return run_daemon_soak(plan, SOUNDS, FLAGS, opened=opened)


def test_commands_and_lost_cards_cost_no_frame_and_no_turn() -> None:
    plan = DaemonPlan(2.0, n_commands=40, heavy=3, n_losses=4, every_s=5.0)
    found = soak(plan)
    assert found["frames"] == plan.n_frames
    assert found["missed_after_a_command"] <= found["missed"]
    assert found["commands"]["answered"] == 40
    assert found["ended_by_error"] == 0
    assert found["history"]["same"] is True
    assert found["history"]["kept"] > 50
    assert found["cards_opened"] > 3  # at least one a conversation, and those that came back
    assert len(found["memory"]) > 100


def test_a_conversation_that_has_ended_is_gone_before_the_next_is_loaded() -> None:
    engines: list[weakref.ref[Parrot]] = []
    left: list[int] = []

    def opened(
        config: Config, _clock: str, _key: Callable[[], bool], hush: Callable[[], bool]
    ) -> Session:
        left.append(sum(engine() is not None for engine in engines))
        parrot = Parrot(hush, lambda: "whole")
        engines.append(weakref.ref(parrot))
        # As the real one: a clock that asks the engine whether it computes.
        return Session(config, parrot, FastClock(lambda: parrot is None), [], lambda: None)

    plan = DaemonPlan(0.5, n_commands=6, heavy=6, n_losses=2, every_s=5.0)
    assert run_daemon_soak(plan, SOUNDS, FLAGS, opened=opened)["ended_by_error"] == 0
    assert len(left) > 1
    assert not any(left)


def test_growth_is_of_the_averages_and_not_of_two_moments() -> None:
    assert grown_mb([100.0, 140.0, 100.0, 140.0]) == 0.0
    assert grown_mb([100.0, 110.0, 120.0, 130.0]) == 20.0
    assert grown_mb([100.0]) == 0.0


def test_a_turn_that_is_not_kept_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = History.append

    def forgetful(self: History, *, user: str, reply: str, engine: str) -> bool:
        return reply != "lost" and real(self, user=user, reply=reply, engine=engine)

    monkeypatch.setattr(History, "append", forgetful)
    words = iter(["whole"] * 5 + ["lost"] + ["whole"] * 10_000)
    found = soak(DaemonPlan(1.0, n_commands=0, heavy=0, n_losses=0), lambda: next(words))
    assert found["history"]["same"] is False
    assert found["history"]["lost"] == 1
