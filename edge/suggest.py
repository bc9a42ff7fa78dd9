"""The nearest of the known names, for messages about one that is unknown."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name that is most like this one; None where none is."""
    found = difflib.get_close_matches(name, known, n=1)
    return found[0] if found else None
