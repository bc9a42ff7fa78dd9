"""What a model's weights were multiplied with while speech ran through it, and its file.

The file is llama.cpp's importance matrix (GGUF form), so its quantizer takes it as well as ours.
Beside the sums and counts that it reads lie the same sums in float64, ranges and histograms, and
the hashes of model and speech. Sums are kept in steps of 2**-30: below 2**23 additions are exact,
so that two runs merged are one run over both, bit by bit.

Source of the format: ggml-org/llama.cpp, common/imatrix-loader.cpp and tools/imatrix (MIT).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.atomic import write_bytes
from edge.errors import ModelDamagedError, UsageError
from export.gguf import ALIGNMENT_BYTES, GgufTensor, Value, encode_header
from export.gguf_read import GgufFile, read_gguf

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_STEP = 2.0**30
_MIN_EXPONENT, _MAX_EXPONENT, _PER_OCTAVE = -24, 17, 4
_N_BINS = 1 + (_MAX_EXPONENT - _MIN_EXPONENT) * _PER_OCTAVE
_F32, _I64, _F64 = 0, 27, 28  # ggml's numbers
_DTYPES: Mapping[int, Any] = {_F32: np.float32, _I64: np.int64, _F64: np.float64}
_PARTS = {".in_sum2": _F32, ".counts": _F32, ".exact": _F64, ".range": _F32, ".histogram": _I64}
_MAX_NAME = 50  # ggml's names have 63 characters, endings with them


@dataclass(slots=True)
class Seen:
    """What one weight was multiplied with.

    sums: float64 (channels,), of squares over n_rows rows. histogram: int64, of sizes, four bins an
    octave, the first for all below 2**-24.
    """

    sums: Float64
    n_rows: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    histogram: Int64 = field(default_factory=lambda: np.zeros(_N_BINS, np.int64))

    def add(self, rows: Float32) -> None:
        """Count rows float32 (n, channels) in."""
        squares = np.einsum("nc,nc->c", rows, rows, dtype=np.float64)
        self.sums = self.sums + np.rint(squares * _STEP) / _STEP
        self.n_rows += len(rows)
        self.low = min(self.low, float(rows.min()))
        self.high = max(self.high, float(rows.max()))
        self.histogram = self.histogram + _histogram(rows)

    def merged(self, other: Seen) -> Seen:
        """Both together. Raises UsageError where they are of different widths."""
        if self.sums.shape != other.sums.shape:
            raise UsageError("these calibrations are of different models; they cannot be merged")
        return Seen(
            self.sums + other.sums,
            self.n_rows + other.n_rows,
            min(self.low, other.low),
            max(self.high, other.high),
            self.histogram + other.histogram,
        )

    @property
    def mean_square(self) -> Float32:
        """Of each channel, float32 (channels,): its importance."""
        # In float32, as llama.cpp's tool divides: its quantizer then gives equal bytes.
        found: Float32 = self.sums.astype(np.float32) / np.float32(max(1, self.n_rows))
        return found

    def size_at(self, share: float) -> float:
        """What a share of all sizes stays below, to a quarter of an octave."""
        total = self.histogram.cumsum()
        at = int(np.searchsorted(total, share * total[-1]))
        return float(2.0 ** (_MIN_EXPONENT + at / _PER_OCTAVE))


@dataclass(slots=True)
class Calibration:
    """model: fingerprint of the float model, "" where it is not known. speech: hash -> clip."""

    model: str = ""
    speech: dict[str, str] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)
    n_frames: int = 0
    settings: str = ""

    def add(self, label: str, rows: Float32) -> None:
        """Count in what a weight was multiplied with."""
        if label not in self.seen:
            self.seen[label] = Seen(np.zeros(rows.shape[-1]))
        self.seen[label].add(rows)

    @property
    def importance(self) -> dict[str, Float32]:
        """Mean square of every channel, by weight; without those that were never fed anything."""
        found = {label: one.mean_square for label, one in self.seen.items()}
        return {label: values for label, values in found.items() if values.any()}


def merged(parts: Sequence[Calibration]) -> Calibration:
    """Calibrations of one model as one. Raises UsageError: of two models, or a clip twice."""
    first = parts[0]
    total = Calibration(first.model, settings=first.settings)
    for part in parts:
        if (part.model, part.settings) != (first.model, first.settings):
            raise UsageError("these calibrations are of different models; they cannot be merged")
        twice = set(part.speech) & set(total.speech)
        if twice:
            name = part.speech[min(twice)]
            raise UsageError(f"{name} is in two of the calibrations; it would count twice")
        total.speech |= part.speech
        total.n_frames += part.n_frames
        for label, one in part.seen.items():
            total.seen[label] = total.seen[label].merged(one) if label in total.seen else one
    return total


def write_calibration(path: Path, found: Calibration) -> None:
    """Write the file, all or nothing; equal content gives equal bytes."""
    labels = sorted(found.seen)
    names = [_stored_name(i, label) for i, label in enumerate(labels)]
    tensors = []
    for name, label in zip(names, labels, strict=True):
        one = found.seen[label]
        arrays: dict[str, NDArray[Any]] = {
            ".in_sum2": one.sums.astype(np.float32)[None],
            ".counts": np.array([[one.n_rows]], np.float32),
            ".exact": one.sums,
            ".range": np.array([one.low, one.high], np.float32),
            ".histogram": one.histogram,
        }
        for ending, array in arrays.items():
            kind = _PARTS[ending]
            get = _giver(array)
            tensors.append(GgufTensor(name + ending, array.shape, kind, array.nbytes, get))
    clips = sorted(found.speech.items())
    digest = hashlib.sha256("\n".join(sha256 for sha256, _ in clips).encode()).hexdigest()
    metadata: dict[str, Value] = {
        "general.type": "imatrix",
        "imatrix.datasets": [f"speech {digest}"],
        "imatrix.chunk_count": len(clips),
        "imatrix.chunk_size": max(1, found.n_frames // max(1, len(clips))),
        "edge.model": found.model,
        "edge.settings": found.settings,
        "edge.n_frames": found.n_frames,
        "edge.speech": [f"{sha256} {name}" for sha256, name in clips],
        "edge.labels": labels,
        "edge.names": names,
    }
    parts = [encode_header(metadata, tensors)]
    for tensor in tensors:
        parts += [tensor.read().tobytes(), bytes(-tensor.n_bytes % ALIGNMENT_BYTES)]
    write_bytes(path, b"".join(parts))


def read_calibration(path: Path) -> Calibration:
    """Read ours or llama.cpp's own, GGUF or the older form. Raises UsageError, ModelDamagedError.

    Of llama.cpp's own neither model nor speech are known.
    """
    from quant.importance import read_sums

    if not path.is_file():
        raise UsageError(f"{path} is not there; make it with `edge quantize calibrate`")
    with path.open("rb") as stream:
        is_gguf = stream.read(4) == b"GGUF"
    if not is_gguf:
        old = {n: Seen(v.astype(np.float64), rows) for n, (v, rows) in read_sums(path).items()}
        return Calibration(seen=_checked(path, old))
    file = read_gguf(path)
    if file.texts.get("general.type") != ("imatrix",):
        raise UsageError(f"{path} is a model; a calibration comes from `edge quantize calibrate`")
    try:
        return _parsed(path, file)
    except (KeyError, ValueError, IndexError, OSError) as error:
        raise ModelDamagedError(
            f"{path.name} is no whole calibration; make it with `edge quantize calibrate`"
        ) from error


def _parsed(path: Path, file: GgufFile) -> Calibration:
    tensors = {tensor.name: tensor for tensor in file.tensors}

    def array(name: str) -> NDArray[Any]:
        tensor = tensors[name]
        dtype = np.dtype(_DTYPES[tensor.ggml_type])
        n_values = int(np.prod(tensor.shape))
        raw = np.array(file.read(tensor, n_values * dtype.itemsize))
        values: NDArray[Any] = raw.view(dtype).reshape(-1)
        return values

    stored = [name.removesuffix(".in_sum2") for name in tensors if name.endswith(".in_sum2")]
    labels = dict(
        zip(file.texts.get("edge.names", ()), file.texts.get("edge.labels", ()), strict=True)
    )
    seen = {}
    for name in stored:
        n_rows = int(array(f"{name}.counts")[0])
        if f"{name}.exact" in tensors:
            low, high = map(float, array(f"{name}.range"))
            one = Seen(array(f"{name}.exact"), n_rows, low, high, array(f"{name}.histogram"))
        else:
            one = Seen(array(f"{name}.in_sum2").astype(np.float64), n_rows)
        seen[labels.get(name, name)] = one
    clips = [line.partition(" ")[::2] for line in file.texts.get("edge.speech", ())]
    return Calibration(
        file.texts.get("edge.model", ("",))[0],
        dict(clips),
        _checked(path, seen),
        file.numbers.get("edge.n_frames", 0),
        file.texts.get("edge.settings", ("",))[0],
    )


def _checked(path: Path, seen: dict[str, Seen]) -> dict[str, Seen]:
    for label, one in seen.items():
        if not np.isfinite(one.sums).all() or (one.sums < 0).any() or one.n_rows < 0:
            raise ModelDamagedError(f"{path.name}: {label} holds what is no sum of squares")
    return seen


def _stored_name(index: int, label: str) -> str:
    """llama.cpp's own name for a tensor of its model, a number for others with long names."""
    name = label.removeprefix("temporal:")
    return name if len(name) <= _MAX_NAME else f"edge.{index}"


def _giver(array: NDArray[Any]) -> Callable[[], NDArray[Any]]:
    return lambda: array


def _histogram(rows: Float32) -> Int64:
    """How many values lie in each quarter of an octave."""
    mantissa, exponent = np.frexp(rows)
    quarter = np.floor(np.log2(np.abs(mantissa, out=mantissa) + np.float32(1e-30)) * _PER_OCTAVE)
    at = (exponent - _MIN_EXPONENT) * _PER_OCTAVE + quarter.astype(np.int64)
    at = np.clip(np.where(mantissa == 0, 0, at + 1), 0, _N_BINS - 1)
    return np.bincount(at.reshape(-1), minlength=_N_BINS)
