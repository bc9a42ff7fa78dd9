"""Saved states: what is written is read, and nothing that differs from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.errors import ArtifactError
from runtime.models.state_file import read_arrays, write_arrays

ARRAYS = {
    "keys": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "half": np.linspace(-1, 1, 5).astype(np.float16),
    "n_frames": np.array([7], np.int64),
    "none": np.zeros((0, 3), np.float32),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_arrays(tmp_path / "state", "test state", "ab" * 32, ARRAYS)
    return tmp_path / "state"


def test_arrays_come_back_as_they_were(path: Path) -> None:
    found = read_arrays(path, "test state", "ab" * 32)
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_every_cut_is_found(path: Path) -> None:
    raw = path.read_bytes()
    for n_bytes in range(0, len(raw), 7):
        path.write_bytes(raw[:n_bytes])
        with pytest.raises(ArtifactError, match=r"cut short|damaged"):
            read_arrays(path, "test state", "ab" * 32)


def test_a_changed_value_is_found(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 4
    path.write_bytes(raw)
    with pytest.raises(ArtifactError, match="damaged"):
        read_arrays(path, "test state", "ab" * 32)


def test_metadata_of_another_type_is_another_s(path: Path) -> None:
    raw = path.read_bytes().replace(
        b'"model":"' + b"ab" * 32 + b'"', b'"model":' + b"null".ljust(66)
    )
    path.write_bytes(raw)
    with pytest.raises(ArtifactError, match="another model"):
        read_arrays(path, "test state", "ab" * 32)


def test_another_kind_or_model_is_refused(path: Path) -> None:
    with pytest.raises(ArtifactError, match="test state"):
        read_arrays(path, "other state", "ab" * 32)
    with pytest.raises(ArtifactError, match="another model"):
        read_arrays(path, "test state", "cd" * 32)
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_arrays(path.with_name("absent"), "test state", "ab" * 32)
