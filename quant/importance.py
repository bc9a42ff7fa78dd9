"""Importance matrices: how much each column of a matrix is used, in llama.cpp's file format.

Source of the format: ggml-org/llama.cpp, tools/imatrix (MIT), the binary form that its quantizer
reads: for each tensor its name, how often it was called and the sums of its squared inputs.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.atomic import write_bytes
from edge.errors import ModelDamagedError, UsageError

Float32 = NDArray[np.float32]
_MAX_NAME_BYTES = 1 << 12
_MAX_VALUES = 1 << 28


def write_importance(
    path: Path, sums: Mapping[str, Float32], counts: Mapping[str, int], *, dataset: str
) -> None:
    """Write sums of squared inputs, float32 (n_columns,) each, over so many positions.

    dataset: the hash of the speech, which goes into the file. Equal input gives equal bytes.
    """
    parts = [struct.pack("<i", len(sums))]
    for name in sorted(sums):
        values = np.ascontiguousarray(sums[name], np.float32)
        raw = name.encode()
        parts.append(struct.pack("<i", len(raw)) + raw)
        # llama.cpp stores means times the number of calls; the quantizer divides it out again.
        parts.append(struct.pack("<ii", counts[name], len(values)) + values.tobytes())
    said = dataset.encode()
    parts.append(struct.pack("<ii", max(counts.values(), default=0), len(said)) + said)
    write_bytes(path, b"".join(parts))


def read_importance(path: Path) -> dict[str, Float32]:
    """Mean squared input of each column, by tensor. Raises ModelDamagedError, UsageError."""
    return {
        name: (values / np.float32(max(1, n))).astype(np.float32)
        for name, (values, n) in read_sums(path)[0].items()
    }


def read_sums(path: Path) -> tuple[dict[str, tuple[Float32, int]], str]:
    """(sums, positions) by tensor, and the dataset's hash. Raises as read_importance does."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        return _parse(raw)
    except (struct.error, ValueError, UnicodeDecodeError) as error:
        raise ModelDamagedError(
            f"{path.name} is no whole importance matrix; make it with `edge quantize calibrate`"
        ) from error


def merge(found: Sequence[Path], out: Path) -> None:
    """Add several matrices of one model up into one. Raises UsageError where they do not match."""
    sums: dict[str, Float32] = {}
    counts: dict[str, int] = {}
    datasets = []
    for path in found:
        tensors, dataset = read_sums(path)
        if sums and {n: v.shape for n, (v, _) in tensors.items()} != {
            n: v.shape for n, v in sums.items()
        }:
            raise UsageError(f"{path} is of another model than {found[0]}; they cannot be merged")
        for name, (values, n) in tensors.items():
            sums[name] = sums.get(name, np.zeros_like(values)) + values
            counts[name] = counts.get(name, 0) + n
        datasets += dataset.split("+")
    if len(set(datasets)) != len(datasets):
        raise UsageError("the same speech is in two of them; it would count twice")
    write_importance(out, sums, counts, dataset="+".join(sorted(datasets)))


def _parse(raw: bytes) -> tuple[dict[str, tuple[Float32, int]], str]:
    at = 0

    def take(layout: str) -> tuple[int, ...]:
        nonlocal at
        found = struct.unpack_from(layout, raw, at)
        at += struct.calcsize(layout)
        return found

    (n_tensors,) = take("<i")
    found = {}
    for _ in range(n_tensors):
        (n_name,) = take("<i")
        if not 0 < n_name <= _MAX_NAME_BYTES:
            raise ValueError("name")
        name = raw[at : at + n_name].decode()
        at += n_name
        n_calls, n_values = take("<ii")
        if not 0 < n_values <= _MAX_VALUES or at + 4 * n_values > len(raw):
            raise ValueError("values")
        found[name] = (np.frombuffer(raw, np.float32, n_values, at).copy(), n_calls)
        at += 4 * n_values
    dataset = ""
    if at < len(raw):
        _, n_said = take("<ii")
        dataset = raw[at : at + n_said].decode()
    return found, dataset
