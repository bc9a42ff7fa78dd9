"""WholeFile: written piece by piece, and in its place only when it was closed."""

from __future__ import annotations

import contextlib
from pathlib import Path

from edge.atomic import atomic_path, write_error


class _AbandonedError(Exception):
    """Tells atomic_path that the file is not wanted."""


class WholeFile:
    """A binary file that appears, whole, when it is closed; given up, nothing of it stays.

    A write that fails gives the file up by itself. Raises EdgeError, one line, where the folder is
    missing, cannot be written, or the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_open = True
        self._target = atomic_path(path)
        part = self._target.__enter__()
        try:
            self._file = part.open("wb")
        except BaseException as error:
            self._drop(error)
            raise

    def write(self, data: bytes, *, at: int | None = None) -> None:
        """Append data; at: go there first, in bytes from the start."""
        try:
            if at is not None:
                self._file.seek(at)
            self._file.write(data)
        except BaseException as error:
            self._drop(error)
            raise

    def close(self) -> None:
        """Move the file into its place. Safe to call twice."""
        if not self.is_open:
            return
        try:
            self._file.close()
        except BaseException as error:
            self._drop(error)
            raise
        self.is_open = False
        self._target.__exit__(None, None, None)

    def abort(self) -> None:
        """Give the file up. Safe after close, which it does not undo."""
        if self.is_open:
            self._drop(_AbandonedError())

    def _drop(self, error: BaseException) -> None:
        """Remove the part; what the system refused is raised here as one line."""
        self.is_open = False
        with contextlib.suppress(OSError):  # a full disk fails the last flush again
            if hasattr(self, "_file"):
                self._file.close()
        self._target.__exit__(type(error), error, error.__traceback__)
        if isinstance(error, OSError):
            raise write_error(self.path, error) from error
