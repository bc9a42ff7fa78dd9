"""A sweep's jobs on a real Dask scheduler with real workers, one of them killed at its work."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

pytest.importorskip("distributed", reason="the extra `cluster`: pip install 'edgevoice[cluster]'")

from apps.cli.main import run
from apps.cli.sweep import sweep
from edge.errors import EdgeError, ModelDamagedError, UsageError
from edge.hashing import sha256_of
from quant import cluster_worker
from quant.cluster import Cluster, full_address
from quant.cluster_worker import Failure, Parcel, Task, keep_piece, run_task
from quant.journal import Journal
from quant.measure.cache import Cache
from quant.measure.rows import Row
from quant.measure.speech import Speech, read_speech
from quant.measure.workers import Handler, work
from tests.quant.test_measure import voice, write_clip

ROOT = Path(__file__).resolve().parents[2]


def make_weigher(model: str, cache_folder: str) -> Handler:
    """A measurer whose figures tell by what bytes they were made, and where."""
    weights = (Path(model) / "inner" / "weights.bin").read_bytes()

    def weigh(job: tuple[str, Any]) -> Row:
        candidate, clip = job
        data = weights + (Path(candidate) / "weights.bin").read_bytes() + clip.path.read_bytes()
        digest = hashlib.pbkdf2_hmac("sha256", data, b"", 150_000)
        path = Path(cache_folder) / f"{digest.hex()}.npy"
        np.save(path, np.frombuffer(digest, np.uint8).astype(np.float32))
        return Row(clip.name, clip.speaker, 1.0, {"digest": float(int.from_bytes(digest[:4]))},
                   facts={"pid": os.getpid()}, sounds={"candidate": str(path)})  # fmt: skip

    return weigh


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[tuple[str, str], list[Any]]:
    """Arguments and jobs over two models and eight clips."""
    monkeypatch.setenv("EDGE_CACHE_DIR", str(tmp_path / "client"))
    for name, seed in (("float/inner", 1), ("small", 2)):
        (tmp_path / name).mkdir(parents=True)
        raw = np.random.default_rng(seed).bytes(1 << 20)
        (tmp_path / name / "weights.bin").write_bytes(raw)
    folder = tmp_path / "speech"
    folder.mkdir()
    for i in range(8):
        write_clip(folder / f"clip{i}.wav", voice(0.2, 24_000, 100 + 10 * i))
    speech: Speech = read_speech(folder)
    jobs = [(str(tmp_path / "small"), one) for one in speech.utterances] * 2
    return (str(tmp_path / "float"), str(Cache().folder)), jobs


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """A scheduler with two workers, each a process with a cache of its own."""
    note = tmp_path / "scheduler.json"
    common = ["--scheduler-file", str(note), "--host", "127.0.0.1"]
    dask = [sys.executable, "-m", "dask"]
    processes = [spawn(tmp_path, "s", [*dask, "scheduler", *common, "--port", "0", "--no-dashboard",
                                       "--dashboard-address", "127.0.0.1:0"])]  # fmt: skip
    options = ["--nthreads", "1", "--no-nanny", "--no-dashboard"]
    options += ["--death-timeout", "120", "--local-directory", str(tmp_path)]
    worker = [*dask, "worker", *common, *options]
    processes += [spawn(tmp_path, f"worker{i}", worker) for i in range(2)]
    try:
        from distributed import Client

        for _ in range(600):
            if note.is_file() and note.stat().st_size:
                break
            assert processes[0].poll() is None
            with suppress(subprocess.TimeoutExpired):
                processes[0].wait(0.1)
        address = json.loads(note.read_text("utf-8"))["address"]
        with Client(address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=100)
        yield address
    finally:
        for process in processes:
            process.kill()
            process.wait()


def spawn(tmp_path: Path, name: str, command: list[str]) -> subprocess.Popen[bytes]:
    env = os.environ | {"EDGE_CACHE_DIR": str(tmp_path / name), "PYTHONPATH": str(ROOT)}
    with (tmp_path / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=tmp_path)


def test_a_killed_worker_loses_nothing(
    given: tuple[Any, list[Any]], scheduler: str, tmp_path: Path
) -> None:
    arguments, jobs = given
    want = {i: row.metrics["digest"] for i, row in work(make_weigher, arguments, jobs, n_workers=0)}
    for path in Cache().folder.iterdir():
        path.unlink()
    found: dict[int, Row] = {}
    for index, row in Cluster(scheduler)(make_weigher, arguments, jobs):
        assert index not in found
        found[index] = row
        if len(found) == 3:
            os.kill(int(row.facts["pid"]), signal.SIGKILL)
    assert {i: row.metrics["digest"] for i, row in found.items()} == want
    assert len({row.facts["pid"] for row in found.values()}) == 2
    for row in found.values():
        heard = np.load(row.sounds["candidate"])
        assert Path(row.sounds["candidate"]).parent == Cache().folder
        assert int.from_bytes(heard[:4].astype(np.uint8).tobytes()) == row.metrics["digest"]
    kept = [path for i in range(2) for path in (tmp_path / f"worker{i}").rglob("files/*")]
    assert kept
    assert all(sha256_of(path) == path.name for path in kept)
    other = Task(make_weigher, arguments, jobs[0], "0.0.1")
    from distributed import Client

    with Client(scheduler, set_as_default=False) as client:
        refused = client.submit(run_task, other, pure=False).result()
    assert isinstance(refused, Failure)
    assert "not 0.0.1" in refused.message


def test_what_arrives_damaged_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_CACHE_DIR", str(tmp_path))
    right = hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(ModelDamagedError, match="damaged on its way"):
        keep_piece(right, 0, b"weighty", last=True)
    assert not list((tmp_path / "cluster" / "files").iterdir())
    keep_piece(right, 0, b"wei", last=False)
    keep_piece(right, 3, b"ghts", last=True)
    parcel = Parcel(True, (("a/w.bin", right),))
    bench = cluster_worker._Bench()
    placed = cluster_worker._placed(parcel, bench)
    assert (placed / "a" / "w.bin").read_bytes() == b"weights"
    (placed / "a" / "w.bin").write_bytes(b"weighty")
    with pytest.raises(cluster_worker._DamagedError):
        cluster_worker._placed(parcel, cluster_worker._Bench())
    assert cluster_worker._lacking([parcel]) == {right}


def test_an_interrupted_recipe_goes_on_with_what_is_left(
    given: tuple[Any, list[Any]], tmp_path: Path
) -> None:
    arguments, jobs = given
    done: list[int] = []

    def counting(*args: Any, **kwargs: Any) -> Iterator[tuple[int, Any]]:
        for index, row in work(*args, **{**kwargs, "n_workers": 0}):
            done.append(index)
            yield index, row

    journal = Journal(counting, tmp_path / "rows", jobs[0][0])
    first = dict(itertools.islice(journal(make_weigher, arguments, jobs[:8]), 3))
    with (tmp_path / "rows").open("a") as stream:
        stream.write('{"key": "cut sho')
    done.clear()
    again = dict(journal(make_weigher, arguments, jobs[:8]))
    assert len(done) == 8 - 3
    assert sorted(again) == list(range(8))
    assert {i: again[i].metrics for i in first} == {i: row.metrics for i, row in first.items()}


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("8786", "tcp://127.0.0.1:8786"),
        ("node:9000", "tcp://node:9000"),
        ("tls://node:9000", "tls://node:9000"),
    ],
)
def test_a_bare_port_is_on_the_loopback(text: str, whole: str) -> None:
    assert full_address(text) == whole
    for wrong in ("node", "node:", ":0", "8786000"):
        with pytest.raises(UsageError, match="no scheduler's address"):
            full_address(wrong)


def test_nobody_at_the_address_is_said_in_one_line(given: tuple[Any, list[Any]]) -> None:
    with pytest.raises(EdgeError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9;") as caught:
        list(Cluster("tcp://127.0.0.1:9", wait_s=1)(make_weigher, *given))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.environ.get("EDGE_SLOW") != "1", reason="takes minutes: EDGE_SLOW=1")
def test_a_sweep_of_a_codec_on_a_cluster_is_the_sweep_here(
    scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Also where a worker is killed as soon as the first row of the first recipe is in."""
    from distributed import Client

    from tests.export.mimi_models import tiny_artifact

    folder = tmp_path / "clips"
    folder.mkdir()
    for i in range(6):
        write_clip(folder / f"clip{i}.wav", voice(0.5, 24_000, 110 + 20 * i))
    with Client(scheduler, set_as_default=False) as client:
        victim = next(iter(client.run(os.getpid).values()))
    journal = tmp_path / "lossy" / "transparent" / "rows.jsonl"
    killed: list[float] = []
    killer = threading.Thread(target=kill_when_there, args=(journal, victim, killed))
    tables = []
    for name in ("here", "there", "lossy"):
        arguments = ["sweep", str(tiny_artifact()), "transparent", "tiny", "--speech", str(folder)]
        arguments += ["--without", "pesq,estoi,visqol,dnsmos,plcmos,speaker,words"]
        arguments += ["--out", str(tmp_path / name), "--json"]
        arguments += ["--workers", "1"] if name == "here" else ["--scheduler", scheduler]
        monkeypatch.setenv("EDGE_CACHE_DIR", str(tmp_path / f"cache-{name}"))
        if name == "lossy":
            killer.start()
        assert run(arguments, click.Group(commands={"sweep": sweep})) == 1
        rows = json.loads(capsys.readouterr().out)["recipes"]
        tables.append([{k: v for k, v in row.items() if k != "report"} for row in rows])
    killer.join(timeout=60)
    assert killed
    assert tables[0] == tables[1] == tables[2]
    with Client(scheduler, set_as_default=False) as client:
        assert victim not in client.run(os.getpid).values()


def kill_when_there(path: Path, pid: int, killed: list[float]) -> None:
    """SIGKILL a process once a file has something in it."""
    for _ in range(3000):
        if path.is_file() and path.stat().st_size:
            os.kill(pid, signal.SIGKILL)
            killed.append(time.monotonic())
            return
        time.sleep(0.05)
