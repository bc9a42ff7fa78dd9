"""The fuzzer reaches what lies behind checksums, and reports what it finds."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path

import pytest

from edge.errors import EdgeError
from edge.tokens import TokenReader
from scripts import fuzz
from scripts.fuzz_inputs import INPUTS, mutations


def careless(data: bytes, folder: Path) -> None:
    """A parser that trusts what a right checksum covers."""
    path = folder / "tokens"
    path.write_bytes(data)
    reader = TokenReader(path)
    assert not any(codes.max() > 0 for codes in reader), "a code"


def growing(data: bytes, _folder: Path) -> None:
    """A parser that keeps what it read."""
    kept.append(os.urandom(50_000))


kept: list[bytes] = []


def test_a_fault_behind_the_checksum_is_found(tmp_path: Path) -> None:
    found = fuzz.fuzz(careless, INPUTS["tokens"](), 120.0, tmp_path, most_faults=1)
    assert not found.ok
    assert found.crashes == 1
    assert "a code" in found.faults[0]


def test_memory_that_grows_is_found(tmp_path: Path) -> None:
    found = fuzz.fuzz(growing, INPUTS["control"](), 120.0, tmp_path, most_runs=3_000)
    kept.clear()
    assert found.grown_mb > 32
    assert not found.ok


def test_mutations_are_the_same_ones_and_many_keep_the_checksum(tmp_path: Path) -> None:
    folder = tmp_path / "tokens"
    whole = fuzz_seed()
    made = list(mutations(whole, "tokens", 60))
    assert made == list(mutations(whole, "tokens", 60))
    n_read = 0
    for data in made:
        folder.write_bytes(data)
        try:
            n_read += sum(1 for _ in TokenReader(folder)) > 0
        except EdgeError:
            continue
    assert n_read > 10


def fuzz_seed() -> bytes:
    """A right token file."""
    head = struct.pack("<4sBBHI32s", b"EDTK", 1, 8, 0, 2048, bytes(32))
    body = head + bytes(44) + struct.pack("<Q", 4 * 1920)
    return body + struct.pack("<I4s", zlib.crc32(body), b"KTDE")


def test_a_report_keeps_what_another_run_found(tmp_path: Path) -> None:
    path = tmp_path / "fuzz.json"
    fuzz.add_to(path, {"wav": {"ok": True, "runs": 1}})
    fuzz.add_to(path, {"lock": {"ok": False, "runs": 2}})
    fuzz.add_to(path, {"wav": {"ok": True, "runs": 3}})
    found = json.loads(path.read_text())
    assert [(name, each["runs"]) for name, each in found["parsers"].items()] == [
        ("lock", 2),
        ("wav", 3),
    ]
    assert found["ok"] is False


@pytest.mark.parametrize("name", ["control", "manifest"])
def test_our_own_parsers_stand_it_in_a_process_of_their_own(name: str) -> None:
    found = fuzz.in_a_child(name, 1.0)
    assert found["ok"], found
    assert found["runs"] > 0
