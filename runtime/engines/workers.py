"""Workers: one thread a role, bounded inboxes, so that the frame loop only ever polls."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Protocol

from runtime.cores import lower_thread_priority

log = logging.getLogger(__name__)

Job = Callable[[], None]


class Worker(Protocol):
    """Runs jobs one after the other."""

    def submit(self, job: Job) -> bool:
        """Queue a job; False if the inbox is full and the job was not taken."""

    def idle(self) -> bool:
        """Nothing runs and nothing waits."""

    def close(self) -> None:
        """Finish the running job, drop the waiting ones, end the thread."""


class ThreadWorker:
    """A Worker with a thread of its own; a job that raises is logged and reported to on_error."""

    def __init__(self, name: str, *, on_error: Callable[[Exception], None], room: int = 8) -> None:
        self._inbox: queue.Queue[Job | None] = queue.Queue(room)
        self._on_error = on_error
        self._n_open = 0
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> bool:
        with self._lock:
            try:
                self._inbox.put_nowait(job)
            except queue.Full:
                return False
            self._n_open += 1
        return True

    def idle(self) -> bool:
        return self._n_open == 0

    def close(self) -> None:
        self._closed.set()
        while self._thread.is_alive():
            try:
                self._inbox.put(None, timeout=0.05)
            except queue.Full:
                continue
            self._thread.join(timeout=0.05)

    def _run(self) -> None:
        lower_thread_priority()
        while (job := self._inbox.get()) is not None:
            try:
                if not self._closed.is_set():
                    job()
            except Exception as error:  # a worker must outlive a failed job; the engine is told
                log.exception("%s failed", threading.current_thread().name)
                self._on_error(error)
            finally:
                with self._lock:
                    self._n_open -= 1


class InlineWorker:
    """A Worker that runs each job at once in the caller's thread: exact, repeatable, for tests."""

    def submit(self, job: Job) -> bool:
        job()
        return True

    def idle(self) -> bool:
        return True

    def close(self) -> None:
        return None


class Stopwatch:
    """Wall time of one stage of one job, in nanoseconds of time.monotonic_ns()."""

    def __init__(self) -> None:
        self.began_ns = time.monotonic_ns()
        self.ended_ns = self.began_ns

    def stop(self) -> int:
        """End the stage; returns its length in nanoseconds."""
        self.ended_ns = time.monotonic_ns()
        return self.ended_ns - self.began_ns
