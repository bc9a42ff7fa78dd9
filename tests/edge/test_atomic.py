"""Atomic writes: the file is the old one or the new one, never something between."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from edge.atomic import atomic_path, write_bytes, write_text
from edge.errors import EdgeError
from edge.hashing import sha256_of


def _write_then_raise(path: Path, error: BaseException | type[BaseException]) -> None:
    with atomic_path(path) as part:
        part.write_bytes(b"half")
        assert part.parent == path.parent
        raise error


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 999])
def test_what_is_written_is_there(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    write_bytes(path, data)
    write_bytes(path, data)
    assert path.read_bytes() == data
    assert _names(tmp_path) == ["file"]


def test_text_is_utf8_with_its_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "é\r\n\n")
    assert (tmp_path / "file").read_bytes() == b"\xc3\xa9\r\n\n"


@pytest.mark.parametrize("older", [None, b"older"])
@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_things_as_they_were(
    tmp_path: Path, older: bytes | None, error: type[BaseException]
) -> None:
    path = tmp_path / "file"
    if older is not None:
        path.write_bytes(older)
    with pytest.raises(error):
        _write_then_raise(path, error)
    assert _names(tmp_path) == ([] if older is None else ["file"])
    assert older is None or path.read_bytes() == older


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def fill(error: Exception | None = None) -> None:
        with atomic_path(tmp_path / "out") as part:
            (part / "b").mkdir(parents=True)
            (part / "b" / "c").write_bytes(b"c")
            if error is not None:
                raise error

    with pytest.raises(RuntimeError):
        fill(RuntimeError())
    assert _names(tmp_path) == []
    fill()
    assert (tmp_path / "out" / "b" / "c").read_bytes() == b"c"
    with pytest.raises(EdgeError, match="cannot be written"):
        fill()
    assert _names(tmp_path) == ["out"]
    assert _names(tmp_path / "out") == ["b"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_line_with_the_free_space(tmp_path: Path, code: int) -> None:
    with pytest.raises(EdgeError, match=r"[0-9.]+ MB free in") as caught:
        _write_then_raise(tmp_path / "file", OSError(code, os.strerror(code)))
    assert str(tmp_path / "file") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert _names(tmp_path) == []


def test_a_missing_folder_is_said_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="create it first"):
        write_text(tmp_path / "missing" / "file", "x")
    assert _names(tmp_path) == []


def test_a_folder_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(EdgeError, match="cannot be written"):
        write_text(tmp_path / "file", "x")
    assert _names(tmp_path) == ["file"]


def test_a_link_is_followed_and_permissions_are_kept(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"older")
    real.chmod(0o600)
    link.symlink_to(real)
    write_text(link, "newer")
    assert link.is_symlink()
    assert real.read_text() == "newer"
    assert real.stat().st_mode & 0o777 == 0o600


def test_only_old_leftovers_of_the_same_file_are_cleared(tmp_path: Path) -> None:
    two_days_ago = time.time() - 2 * 24 * 3600
    parts = []
    for name in ("file", "file", "file.other"):
        with atomic_path(tmp_path / name) as part:
            part.write_bytes(b"")
        parts.append(part)
    for part in parts:
        part.write_bytes(b"left by a kill")
        os.utime(part, (two_days_ago, two_days_ago))
    os.utime(parts[1])
    write_text(tmp_path / "file", "x")
    assert _names(tmp_path) == sorted(["file", "file.other", parts[1].name, parts[2].name])


def test_a_very_long_name_can_be_written(tmp_path: Path) -> None:
    name = "é" * 127
    write_text(tmp_path / name, "x")
    assert _names(tmp_path) == [name]


def test_the_hash_is_the_known_one(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path / "abc") == known
