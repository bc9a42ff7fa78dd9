"""What a recogniser heard, held against what was said."""

from __future__ import annotations

from collections.abc import Sequence


def words_wrong(said: Sequence[str], heard: Sequence[str]) -> int:
    """Fewest words to replace, insert or delete (Levenshtein's distance)."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        above, row = row, [i]
        for j, other in enumerate(heard, 1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (word != other)))
    return row[-1]
