"""Processes that work through a list of jobs; one that dies loses nothing but time."""

from __future__ import annotations

import multiprocessing as mp
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from edge.errors import EdgeError

Handler = Callable[[Any], Any]
Make = Callable[..., Handler]
Work = Callable[..., Iterator[tuple[int, Any]]]  # what work() below is, or a cluster in its place

_MAX_DEATHS = 2  # of workers over one job, before the job is given up


def work(
    make: Make, arguments: tuple[Any, ...], jobs: Sequence[Any], *, n_workers: int = 1
) -> Iterator[tuple[int, Any]]:
    """Give (index of the job, result) as jobs end, in no order.

    make(*arguments), a function of a module, is called once in each process and returns what does a
    job; models stay loaded in it. n_workers: 0 does everything here. Raises EdgeError where a job
    raised, or killed its worker twice.
    """
    if n_workers < 1 or len(jobs) == 1:
        handler = make(*arguments)
        for i, job in enumerate(jobs):
            yield i, handler(job)
        return
    context = mp.get_context("spawn")
    waiting = list(range(len(jobs)))[::-1]
    deaths = dict.fromkeys(waiting, 0)
    busy: dict[Connection, tuple[Any, int]] = {}
    try:
        for _ in range(min(n_workers, len(jobs))):
            _start(context, make, arguments, busy, waiting, jobs)
        while busy:
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                process, index = busy[connection]
                try:
                    kind, value = connection.recv()
                except (EOFError, ConnectionError):
                    del busy[connection]
                    process.join()
                    deaths[index] += 1
                    if deaths[index] >= _MAX_DEATHS:
                        raise EdgeError(
                            f"a worker died twice over the same clip (exit code "
                            f"{process.exitcode}); is there enough memory?"
                        ) from None
                    waiting.append(index)
                    _start(context, make, arguments, busy, waiting, jobs)
                    continue
                if kind == "error":
                    raise EdgeError(value)
                yield index, value
                _next(connection, busy, waiting, jobs)
    finally:
        for connection, (process, _) in busy.items():
            connection.close()
            process.terminate()
            process.join()


def _start(
    context: Any, make: Make, arguments: tuple[Any, ...], busy: dict[Connection, tuple[Any, int]],
    waiting: list[int], jobs: Sequence[Any],
) -> None:  # fmt: skip
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
    process.start()
    theirs.close()
    busy[ours] = (process, -1)
    _next(ours, busy, waiting, jobs)


def _next(
    connection: Connection, busy: dict[Connection, tuple[Any, int]], waiting: list[int],
    jobs: Sequence[Any],
) -> None:  # fmt: skip
    process, _ = busy[connection]
    if waiting:
        index = waiting.pop()
        busy[connection] = (process, index)
        with suppress(ConnectionError):  # then reading from it says so too
            connection.send(jobs[index])
        return
    del busy[connection]
    connection.close()
    process.join()


def _serve(connection: Connection, make: Make, arguments: tuple[Any, ...]) -> None:
    """In the worker: do jobs until the other end closes."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        handler = make(*arguments)
        while True:
            try:
                job = connection.recv()
            except EOFError:
                return
            connection.send(("done", handler(job)))
    except EdgeError as error:
        connection.send(("error", str(error)))
