"""What every training of the miniature does: steps at a rate that is held, a finish on a copy."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from export.mini.checkpoints import RunState, save_run

Report = Callable[[dict[str, float]], None]

_LEAST_RATE = 0.03


class Pace(Protocol):
    """What a recipe says of it."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def warm_up_steps(self) -> int: ...
    @property
    def save_every(self) -> int: ...


class Trainer(ABC):
    """One run, in memory; `path` is where it is kept."""

    report_every = 20

    def __init__(
        self,
        pace: Pace,
        path: Path,
        whole: nn.Module,
        result: nn.Module,
        optimizer: torch.optim.Optimizer,
        state: RunState,
    ) -> None:
        """whole: what is needed to go on. result: what finish saves of it."""
        self.path, self.optimizer, self.state = path, optimizer, state
        self._pace, self._whole, self._result = pace, whole, result

    def train(self, n_steps: int, report: Report, *, minutes: float = 1e9) -> None:
        """Go on for n_steps or minutes at the constant rate, saving now and then."""
        began = time.monotonic()
        for _ in range(n_steps):
            self._one(self._warm_rate(), report)
            if self.state.step % self._pace.save_every == 0:
                self._save()
            if time.monotonic() - began > 60 * minutes:
                break
        self._save()

    def finish(self, n_steps: int, out: Path, report: Report) -> None:
        """Let the rate fall to 3 % over n_steps and save the result as `out`, not as the run."""
        for done in range(n_steps):
            self._before_finishing(done, n_steps)
            fall = _LEAST_RATE + (1 - _LEAST_RATE) * 0.5 * (1 + np.cos(np.pi * done / n_steps))
            self._one(self._held_rate() * float(fall), report)
        self.state.phase = "finished"
        save_run(out, self._result, None, self.state)

    @abstractmethod
    def _learn(self) -> Mapping[str, Tensor]:
        """One step of the optimizer; what is to be written down of it."""

    def _before_finishing(self, done: int, n_steps: int) -> None:  # noqa: B027 - may stay empty
        """Called before each step of a finish; done: how many of the n_steps are over."""

    def _held_rate(self) -> float:
        """What a finish falls from."""
        return self._pace.learning_rate

    def _warm_rate(self) -> float:
        warm = min(1.0, (self.state.step + 1) / self._pace.warm_up_steps)
        return self._pace.learning_rate * warm

    def _save(self) -> None:
        save_run(self.path, self._whole, self.optimizer, self.state)

    def _one(self, rate: float, report: Report) -> None:
        began = time.monotonic()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        found = self._learn()
        self.state.step += 1
        self.state.wall_s += time.monotonic() - began
        if self.state.step % self.report_every == 0:
            row = {name: float(value.detach()) for name, value in found.items()}
            row |= {"step": float(self.state.step), "wall_s": self.state.wall_s, "rate": rate}
            self.state.curve.append(row)
            report(row)
