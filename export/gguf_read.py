"""Reading a GGUF's header: its tensors, and its metadata as it stands."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelDamagedError
from export.gguf import ALIGNMENT_BYTES, Metadata

_SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_U32, _STRING, _ARRAY = 4, 8, 9
_MAX_TEXT_BYTES = 1 << 24
_MAX_ITEMS = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file. shape: numpy order. begin: where its data starts, in bytes."""

    name: str
    shape: tuple[int, ...]
    ggml_type: int
    begin: int


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A file's header. numbers: its uint32 values; places: where each of them stands in raw.

    texts: its strings and lists of strings, without those of a vocabulary.
    """

    path: Path
    metadata: Metadata
    tensors: tuple[StoredTensor, ...]
    numbers: Mapping[str, int]
    places: Mapping[str, int]
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def with_number(self, key: str, value: int) -> Metadata:
        """The metadata with one uint32 changed."""
        at = self.places[key]
        raw = self.metadata.raw
        return Metadata(self.metadata.n_pairs, raw[:at] + struct.pack("<I", value) + raw[at + 4 :])

    def read(self, tensor: StoredTensor, n_bytes: int) -> NDArray[np.uint8]:
        """A tensor's data as it is stored, mapped."""
        return np.memmap(self.path, np.uint8, "r", tensor.begin, n_bytes)


def read_gguf(path: Path) -> GgufFile:
    """Read the header. Raises ModelDamagedError where it is none or cut short."""
    try:
        with path.open("rb") as file:
            return _parse(path, file)
    except (struct.error, ValueError, KeyError, OSError) as error:
        raise ModelDamagedError(
            f"{path.name}: not a whole GGUF file; export or fetch it again"
        ) from error


def _parse(path: Path, file: BinaryIO) -> GgufFile:
    if file.read(4) != b"GGUF":
        raise ValueError("magic")
    version, n_tensors, n_pairs = _unpack(file, "<IQQ")
    if version not in (2, 3) or n_tensors > _MAX_ITEMS or n_pairs > _MAX_ITEMS:
        raise ValueError("version or counts")
    began = file.tell()
    numbers: dict[str, int] = {}
    places: dict[str, int] = {}
    texts: dict[str, tuple[str, ...]] = {}
    for _ in range(n_pairs):
        key = _text(file)
        (kind,) = _unpack(file, "<I")
        if kind == _U32:
            places[key] = file.tell() - began
            (numbers[key],) = _unpack(file, "<I")
        elif kind in (_STRING, _ARRAY) and not key.startswith("tokenizer."):
            texts[key] = _texts(file, kind)
        else:
            _skip(file, kind)
    n_bytes = file.tell() - began
    infos: list[tuple[str, tuple[int, ...], int, int]] = []
    for _ in range(n_tensors):
        name = _text(file)
        (n_dims,) = _unpack(file, "<I")
        dims = _unpack(file, f"<{min(n_dims, 8)}Q")
        kind, at = _unpack(file, "<IQ")
        infos.append((name, dims[::-1], kind, at))
    alignment = numbers.get("general.alignment", ALIGNMENT_BYTES)
    start = -(-file.tell() // alignment) * alignment
    file.seek(began)
    return GgufFile(
        path,
        Metadata(n_pairs, file.read(n_bytes)),
        tuple(StoredTensor(n, dims, kind, start + at) for n, dims, kind, at in infos),
        numbers,
        places,
        texts,
    )


def _texts(file: BinaryIO, kind: int) -> tuple[str, ...]:
    """A string, or a list of them; nothing for a list of something else, which is passed over."""
    if kind == _STRING:
        return (_text(file),)
    began = file.tell()
    item, n_items = _unpack(file, "<IQ")
    if item == _STRING and n_items <= _MAX_ITEMS:
        return tuple(_text(file) for _ in range(n_items))
    file.seek(began)
    _skip(file, kind)
    return ()


def _skip(file: BinaryIO, kind: int) -> None:
    if kind == _STRING:
        _text(file)
    elif kind == _ARRAY:
        item, n_items = _unpack(file, "<IQ")
        if item in _SCALAR_BYTES:
            file.seek(_SCALAR_BYTES[item] * n_items, 1)
        else:
            for _ in range(n_items):
                _skip(file, item)
    else:
        file.seek(_SCALAR_BYTES[kind], 1)


def _text(file: BinaryIO) -> str:
    (n_bytes,) = _unpack(file, "<Q")
    if n_bytes > _MAX_TEXT_BYTES:
        raise ValueError("text")
    return file.read(n_bytes).decode("utf-8")


def _unpack(file: BinaryIO, layout: str) -> tuple[int, ...]:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))
