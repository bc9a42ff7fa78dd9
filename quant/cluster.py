"""Jobs of a measurement on a Dask cluster: models and clips travel by hash, deaths cost only time.

A Dask cluster is trusted ground: whoever reaches its ports can run code on its machines, and what
it sends is unpickled by Dask. We add no pickle of our own: files are checked against their hashes
on arrival and before each use, and results are plain values.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge.atomic import write_bytes
from edge.errors import EdgeError, MissingPackageError, UsageError
from edge.hashing import sha256_of
from quant.cluster_worker import (
    Clip,
    Failure,
    Lacking,
    Parcel,
    Remote,
    Result,
    Task,
    keep_piece,
    our_version,
    run_task,
)
from quant.measure.cache import Cache
from quant.measure.rows import Row
from quant.measure.speech import Utterance
from quant.measure.workers import Make

_PIECE_BYTES = 16 << 20
_MAX_SENT = 5  # times that one job's files are sent, before something must be wrong
_AHEAD = 4  # jobs handed out per worker, so that none waits for the network


@dataclass(frozen=True, slots=True)
class Cluster:
    """A scheduler's address, as `work` of quant.measure.workers is for this machine's processes."""

    address: str
    wait_s: float = 30.0

    def __call__(
        self, make: Make, arguments: tuple[Any, ...], jobs: Sequence[Any], *, n_workers: int = 1
    ) -> Iterator[tuple[int, Any]]:
        """Give (index of the job, result) as jobs end, in no order; n_workers is the cluster's.

        Raises EdgeError where a job raised, where nobody answers at the address, or where workers
        died over one job again and again.
        """
        del n_workers
        with _connected(self.address, self.wait_s) as client:
            yield from _Rounds(client, make, arguments).run(jobs)


def full_address(text: str) -> str:
    """A scheduler's address; a bare port is one of this machine's loopback. Raises UsageError."""
    bare = text.removeprefix("tcp://").removeprefix("tls://")
    host, _, port = bare.rpartition(":")
    if not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise UsageError(f"{text!r} is no scheduler's address; write it like 8786 or host:8786")
    scheme = "tls" if text.startswith("tls://") else "tcp"
    return f"{scheme}://{host or '127.0.0.1'}:{port}"


def _connected(address: str, wait_s: float) -> Any:
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise MissingPackageError(
            "distributed", extra="cluster", needed_for="a sweep on a cluster"
        ) from error
    try:
        client = distributed.Client(address, timeout=wait_s, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise EdgeError(
            f"no scheduler answers at {address}; start one with: dask scheduler --host 127.0.0.1"
        ) from error
    try:
        client.wait_for_workers(1, timeout=wait_s)
    except TimeoutError as error:
        client.close()
        raise EdgeError(
            f"the scheduler at {address} has no workers; start one with: dask worker {address} "
            "--nthreads 1"
        ) from error
    return client


class _Rounds:
    """One list of jobs: hands them out, sends files to whoever lacks them, collects results."""

    def __init__(self, client: Any, make: Make, arguments: tuple[Any, ...]) -> None:
        self._client = client
        self._files: dict[str, Path] = {}
        self._parcels: dict[Path, Parcel] = {}
        self._make = make
        self._arguments = tuple(self._packed(one) for one in arguments)
        self._number = itertools.count()

    def run(self, jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        waiting = list(range(len(jobs)))[::-1]
        at: dict[str, int] = {}
        sent: dict[int, int] = {}
        running = importlib.import_module("distributed").as_completed(loop=self._client.loop)
        n_ahead = _AHEAD * max(1, len(self._client.scheduler_info()["workers"]))
        while waiting and len(at) < n_ahead:
            self._submit(waiting.pop(), jobs, running, at)
        for future in running:
            index = at.pop(future.key)
            outcome = self._outcome(future)
            if isinstance(outcome, Lacking):
                sent[index] = sent.get(index, 0) + 1
                if sent[index] > _MAX_SENT:
                    raise EdgeError(f"worker {outcome.worker} does not keep the files it is sent")
                self._send(outcome)
                self._submit(index, jobs, running, at)
                continue
            yield index, self._unpacked(outcome)
            if waiting:
                self._submit(waiting.pop(), jobs, running, at)

    def _submit(self, index: int, jobs: Sequence[Any], running: Any, at: dict[str, int]) -> None:
        job = tuple(self._packed(one) for one in jobs[index])
        task = Task(self._make, self._arguments, job, our_version())
        key = f"edge-{id(self)}-{index}-{next(self._number)}"
        future = self._client.submit(run_task, task, key=key, pure=False)
        at[key] = index
        running.add(future)

    def _outcome(self, future: Any) -> Any:
        distributed = importlib.import_module("distributed")
        try:
            found = future.result()
        except distributed.KilledWorker as error:
            raise EdgeError(
                "workers died over the same clip again and again; have they enough memory?"
            ) from error
        except (distributed.CancelledError, OSError) as error:
            raise EdgeError("the scheduler has gone; what was finished is kept") from error
        if isinstance(found, Failure):
            raise EdgeError(f"on worker {found.worker}: {found.message}")
        return found

    def _send(self, lacking: Lacking) -> None:
        """Bring a worker the files it asked for; one that has died since is asked no more."""
        for sha256 in lacking.sha256:
            path = self._files[sha256]
            size, offset = path.stat().st_size, 0
            with path.open("rb") as stream:
                while offset < size or offset == size == 0:
                    piece = stream.read(_PIECE_BYTES)
                    last = offset + len(piece) >= size
                    try:
                        self._client.run(
                            keep_piece, sha256, offset, piece, last=last, workers=[lacking.worker]
                        )
                    except (OSError, ValueError, KeyError):
                        return
                    offset += len(piece)
                    if last:
                        break

    def _packed(self, value: Any) -> Any:
        """A value with every path of this machine replaced by what is there, by hash."""
        if isinstance(value, Utterance):
            clip = self._parcel(value.path)
            return Clip(value, clip) if clip else value
        if isinstance(value, str):
            return Remote() if value == str(Cache().folder) else self._parcel(Path(value)) or value
        return value

    def _parcel(self, path: Path) -> Parcel | None:
        if path not in self._parcels:
            if path.is_dir():
                inside = sorted(one for one in path.rglob("*") if one.is_file())
                named = {one.relative_to(path).as_posix(): one for one in inside}
            elif path.is_file():
                named = {path.name: path}
            else:
                return None
            hashes = {name: sha256_of(one) for name, one in named.items()}
            self._files |= {hashes[name]: one for name, one in named.items()}
            self._parcels[path] = Parcel(path.is_dir(), tuple(sorted(hashes.items())))
        return self._parcels[path]

    def _unpacked(self, found: Result) -> Any:
        """A result whose sounds lie in files of this machine."""
        folder = Cache().folder
        row = found.value
        if not isinstance(row, Row):
            return row
        for name, data in found.sounds.items():
            if not (folder / name).is_file():
                write_bytes(folder / name, data)
        return replace(row, sounds={k: str(folder / Path(v).name) for k, v in row.sounds.items()})
