"""A multistream model whose weights are rounded to see what that does: to what it would draw next.

The float model talks, and every rounded form is led along its tokens. In every frame text and codes
are drawn one after another, each given those before, so that the divergences of all of them add up
to that of the whole frame.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quant.measure.streams import follow, kl
from quant.mixes import patterns
from quant.recipe import Recipe, Rule
from quant.run import quantize
from quant.subject import Subject
from runtime.models.moshi import MoshiModel

Int64 = NDArray[np.int64]

KL = "kl"


class RoundedStreams:
    """Runs conversations through a model with any weights rounded, a whole artifact each time.

    That is for small models: one with n weights is written and loaded n times for each precision.
    """

    def __init__(self, subject: Subject, users: Sequence[Int64]) -> None:
        """subject: a float model. users: what the user says, int64 (frames, n_user) each."""
        self._subject = subject
        self._users = users
        model = MoshiModel(subject.path)
        self._wanted = [follow(model, user, None) for user in users]
        model.close()

    def kind_of(self, part: str) -> str:
        """One kind of damage, whichever part is rounded."""
        del part
        return KL

    def damages(self, precisions: Mapping[str, str]) -> dict[str, float]:
        """What rounding does, nats a frame; precisions: label -> what it becomes, others float."""
        with self._rounded(precisions) as folder:
            model = MoshiModel(folder)
            found = []
            for user, want in zip(self._users, self._wanted, strict=True):
                got = follow(model, user, want)
                frames = kl(want.text_logits, got.text_logits)
                if want.codes.size:
                    frames = frames + kl(want.audio_logits, got.audio_logits).sum(axis=1)
                found.append(frames)
            model.close()
        return {KL: float(np.concatenate(found).mean())}

    def file_bytes(self, precisions: Mapping[str, str]) -> int:
        """Bytes of all files."""
        with self._rounded(precisions) as folder:
            return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())

    @contextmanager
    def _rounded(self, precisions: Mapping[str, str]) -> Iterator[Path]:
        wanted = patterns({label: to for label, to in precisions.items() if to != "float"})
        rules = tuple(Rule(pattern, to) for to, pattern in wanted.items())
        # By this name the attention cache stays as it is, and weights are all that differs.
        recipe = Recipe("float", "", 0, "compact", {self._subject.section: rules}, "0" * 64)
        with tempfile.TemporaryDirectory(prefix="edge-rounded-") as scratch:
            yield quantize(self._subject, recipe, Path(scratch) / "model").directory
