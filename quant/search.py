"""How much each weight matters, and the best mix of precisions by that.

Each weight is rounded alone and what that does is measured: in its own values, for a codec in its
codes and its sound, for a multistream model in what it would draw next. The mix that follows is
then made as a whole and measured the same way; if it does more than it may, it gets less to do.
What it does on other sound `edge measure` says.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.errors import UsageError
from edge.frame import SAMPLE_RATE_HZ
from edge.wav import read_mono
from quant.measure.codec import in_frames
from quant.measure.speech import Speech, Utterance
from quant.measure.streams import conversations, encoded, find_codec
from quant.mixes import Found, Mixes, Option, Uniform, Weighed, uniforms
from quant.onnx_weights import fits, size_bytes
from quant.planning import expected
from quant.resolve import Choice
from quant.subject import Item, Subject
from quant.values import Values
from runtime.backends.ggml import Ggml
from runtime.models.mimi_probe import probe_sound
from runtime.models.multistream.spec import MoshiSpec

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
Progress = Callable[[str, int, int], None]
By = Literal["weights", "sound", "kl"]

# Most precise first.
_MATRIX = ("float", "f16", "w8f", "w8a16", "w4f")
_OTHER = ("float", "f16", "w8a16")
_SEARCH = ("float", "f16")
_BLOCKS = ("float", "w8", "w4")
_GGUF = ("q8_0", "q6_K", "q5_K", "q4_K", "q3_K")
_MOST_ROUNDS = 8
_PROBE_FRAMES, _CLIP_FRAMES = 48, 12
MOST_CLIPS = 12
MOST_TALKS = 4
WEIGHTS = "weights"
# What a model that is run is held against where nothing else is named.
YARDSTICK: Mapping[By, str] = {"sound": "w8a16", "kl": "q8_0"}


class Rounded(Protocol):
    """A model that is run with any weights rounded; precisions: label -> what it becomes."""

    def kind_of(self, part: str) -> str:
        """The kind of damage that rounding does in a part."""

    def damages(self, precisions: Mapping[str, str]) -> dict[str, float]:
        """What rounding does, by kind."""

    def file_bytes(self, precisions: Mapping[str, str]) -> int:
        """Bytes of the files that come out."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A mix and a uniform file, both made whole and run. file_bytes: as written."""

    damages: Mapping[str, float]
    file_bytes: int
    uniform_damages: Mapping[str, float]
    uniform_file_bytes: int

    @property
    def beaten(self) -> bool:
        """The mix is smaller and no more damaged in any way."""
        return self.file_bytes < self.uniform_file_bytes and all(
            self.damages[kind] <= most for kind, most in self.uniform_damages.items()
        )


def sound_of(speech: Speech | None) -> Float32:
    """What a codec is run on, float32 (n, 1920): the middle of every clip, or a sound of ours."""
    if speech is None:
        return probe_sound(_PROBE_FRAMES, seed=0)
    pieces = []
    for clip in speech.utterances:
        frames = in_frames(read_mono(clip.path, SAMPLE_RATE_HZ))
        begin = max(0, len(frames) - _CLIP_FRAMES) // 2
        pieces.append(frames[begin : begin + _CLIP_FRAMES])
    found: Float32 = np.concatenate(pieces)
    return found


def talks_of(subject: Subject, speech: Speech | None, codec: Path | None) -> list[Int64]:
    """What users say to a multistream model, int64 (frames, n_user) each; random without speech.

    codec: encodes the speech; by default the one in the model's folder or beside it. Raises
    UsageError.
    """
    assert subject.manifest is not None
    spec = MoshiSpec.from_table(subject.manifest.config)
    n_user = spec.layout.n_user
    with tempfile.TemporaryDirectory(prefix="edge-talks-") as scratch:
        folder = Path(scratch)
        if speech is None:
            said: Sequence[Utterance] = conversations(folder, n_user, spec.card, n=MOST_TALKS)
        else:
            found = find_codec(subject.path, codec)
            if found is None:
                raise UsageError(f"{subject.path} has no codec for the speech: --codec DIR")
            said = encoded(speech, found, n_user, folder)
        return [np.load(one.path, allow_pickle=False) for one in said]


def weigh(
    subject: Subject, model: Rounded | None = None, *,
    on_progress: Progress = lambda *_: None,
) -> Weighed:  # fmt: skip
    """Size and damage of every precision that every weight can take.

    model: itself in memory, to measure in what it does instead of in values.
    """
    values = Values(subject)
    ggml = Ggml() if any(item.part.engine == "gguf" for item in subject.items) else None
    found, kinds = {}, {}
    for done, item in enumerate(subject.items):
        on_progress("measuring sensitivity", done, len(subject.items))
        kinds[item.label] = model.kind_of(item.part.name) if model else WEIGHTS
        options = []
        for precision in _known(item, ggml):
            n_bytes = _bytes(item, precision, ggml)
            if precision == "float":
                damage = 0.0
            elif model is not None:
                damage = model.damages({item.label: precision})[kinds[item.label]]
            else:
                signal, noise = expected(Choice(item, precision, n_bytes), values)
                damage = noise / signal if signal else 0.0
            options.append(Option(precision, n_bytes, damage))
        found[item.label] = options
    on_progress("measuring sensitivity", len(subject.items), len(subject.items))
    return Weighed(found, kinds)


def uniform_of(weighed: Weighed, precision: str) -> Uniform:
    """All weights in one precision. Raises UsageError where no weight can take it."""
    alike = {name: one for one in uniforms(weighed) for name in one.precision.split("/")}
    if precision not in alike:
        raise UsageError(f"no weight here can become {precision!r}; there are {', '.join(alike)}")
    return alike[precision]


def as_good_as(
    weighed: Weighed, than: Uniform, model: Rounded | None, *,
    on_progress: Progress = lambda *_: None,
) -> tuple[Found, Checked | None]:  # fmt: skip
    """The smallest mix that does no more damage of any kind than a uniform file.

    With the model itself both are made whole and run, until it is so. Raises UsageError where none
    is.
    """
    mixes = Mixes(weighed, than.damages)
    if model is None:
        return mixes.within(than.damages), None
    budgets = dict(than.damages)
    uniform = _made_whole(than.precisions, model)
    for done in range(_MOST_ROUNDS):
        on_progress("running mixes", done, _MOST_ROUNDS)
        found = mixes.within(budgets)
        checked = Checked(*_made_whole(found.precisions, model), *uniform)
        over = {k: checked.damages[k] / most for k, most in checked.uniform_damages.items()}
        if checked.beaten:
            on_progress("running mixes", _MOST_ROUNDS, _MOST_ROUNDS)
            return found, checked
        if all(one <= 1 for one in over.values()):
            break
        budgets = {k: v / (1.02 * over[k]) if over[k] > 1 else v for k, v in budgets.items()}
    raise UsageError(
        f"no mix was found that is smaller than all {than.precision} and no more damaged; name a "
        "size with --target-size"
    )


def check(found: Found, than: Uniform, model: Rounded) -> Checked:
    """Run a mix and a uniform file."""
    return Checked(*_made_whole(found.precisions, model), *_made_whole(than.precisions, model))


def _made_whole(precisions: Mapping[str, str], model: Rounded) -> tuple[Mapping[str, float], int]:
    """Damages by kind and bytes of the files."""
    return model.damages(precisions), model.file_bytes(precisions)


def _known(item: Item, ggml: Ggml | None) -> list[str]:
    if item.weight is None:
        assert ggml is not None
        wide = item.shape[-1]
        return [kind for kind in _GGUF if ggml.fits(kind, wide)] or ["f16"]
    if item.part.engine == "blocks":
        wide_enough = item.weight.kind == "matmul" and item.weight.shape[0] % 32 == 0
        return list(_BLOCKS) if wide_enough else ["float"]
    names = {"search": _SEARCH, "matmul": _MATRIX}.get(item.weight.kind, _OTHER)
    return [name for name in names if fits(item.weight, name)]


def _bytes(item: Item, precision: str, ggml: Ggml | None) -> int:
    if item.weight is None:
        assert ggml is not None
        return ggml.row_bytes(precision, item.shape[-1]) * (item.n_values // item.shape[-1])
    if item.part.engine == "blocks" and precision != "float":
        return item.n_values // 32 * (4 + (32 if precision == "w8" else 16))
    return size_bytes(item.weight, precision)
