"""Folders that a command is asked to make: said no to before the work, not after it."""

from __future__ import annotations

from pathlib import Path

from edge.errors import UsageError


def check_new_folder(path: Path) -> None:
    """Make the folder's parents; the folder itself must not exist, or be empty.

    Raises UsageError where something is in its place.
    """
    if path.is_dir() and any(path.iterdir()):
        raise UsageError(f"{path} is not empty; give the name of a new folder")
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file; give the name of a new folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path.parent} cannot be made: {error.strerror or error}") from error
