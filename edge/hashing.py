"""SHA-256 of files: how everything that is loaded is known to be what it should be."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha256_of(path: Path) -> str:
    """The file's SHA-256 as 64 lower-case hex digits, read in pieces: memory stays flat.

    Raises OSError where the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
