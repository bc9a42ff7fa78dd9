"""How loud the user speaks, so that a voice far below it can be told from the user's own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from runtime.engines.roles import Float32

# The level of vowels is followed at once, downwards only within some ten seconds of speech.
_UP_PART, _DOWN_PART = 0.3, 0.004
# It is also forgotten, by 6 dB a minute: somebody who has gone to the other end of the room.
_FORGET_DB = 0.1 * 0.032
_RECENT_CHUNKS, _BRIEF_CHUNKS = 8, 3


@dataclass(frozen=True, slots=True)
class Loudness:
    """talker_db: level of the user's vowels, dBFS, None before a turn. recent_db: that of the last
    eight chunks of 32 ms.
    """

    talker_db: float | None = None
    recent_db: tuple[float, ...] = ()

    def is_faint(self, below_db: float, *, in_turn: bool) -> bool:
        """All that was heard lately is this far below the user's level.

        in_turn: the user is speaking. Then lately is a quarter of a second, because the end of a
        word may be soft; else a tenth. False while the user's level is not known, and where
        below_db is 0.
        """
        if self.talker_db is None or below_db == 0 or not self.recent_db:
            return False
        recent_db = self.recent_db if in_turn else self.recent_db[-_BRIEF_CHUNKS:]
        return max(recent_db) < self.talker_db - below_db


def hear(state: Loudness, chunk: Float32, *, is_user: bool) -> Loudness:
    """Fold in one chunk, float32 (n,). is_user: it is speech that is surely the user's."""
    level_db = 10 * float(np.log10(float(np.mean(np.square(chunk))) + 1e-12))
    state = replace(state, recent_db=(*state.recent_db, level_db)[-_RECENT_CHUNKS:])
    if not is_user:
        talker_db = None if state.talker_db is None else state.talker_db - _FORGET_DB
        return replace(state, talker_db=talker_db)
    before = level_db if state.talker_db is None else state.talker_db
    part = _UP_PART if level_db > before else _DOWN_PART
    return replace(state, talker_db=before + part * (level_db - before))
