"""Lowering one's voice while the user speaks: for an engine that hears and speaks at once.

Such an engine decides for itself when to stop, which takes it half a second; that it has heard
should be noticed sooner. So its sound is turned down from the first frame in which there is a voice
over it, and up again when none followed for a while. What the model hears and says is untouched.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.frame import Event, Pcm
from runtime.sound.levels import duck, from_db, rms, to_db

# A voice is this far above what there always is, which is followed down at once, up 3 dB a second.
_ABOVE_DB = 12.0
_LEAST_VOICE_DB = -50.0
_LEAST_FLOOR_DB = -62.0
_FLOOR_UP_DB = 0.24
# A word is seldom interrupted for longer than three frames.
_RAISE_FRAMES = 4


@dataclass(slots=True)
class Manners:
    """One conversation's. floor_db: level of the room. n_still: frames since the last voice.

    lowered: the assistant speaks lower now. gain: of the last sample played.
    """

    floor_db: float = _LEAST_FLOOR_DB
    n_still: int = _RAISE_FRAMES
    lowered: bool = False
    gain: float = 1.0


def listen(manners: Manners, pcm: Pcm) -> bool:
    """Take what was heard in a frame, float32 (1920,); whether there is a voice in it."""
    level_db = to_db(rms(pcm))
    floor_db = max(_LEAST_FLOOR_DB, min(level_db, manners.floor_db + _FLOOR_UP_DB))
    manners.floor_db = floor_db
    is_voice = level_db > max(_LEAST_VOICE_DB, floor_db + _ABOVE_DB)
    manners.n_still = 0 if is_voice else manners.n_still + 1
    return is_voice


def speak(manners: Manners, pcm: Pcm, *, audible: bool, duck_db: float) -> tuple[Pcm, list[Event]]:
    """A frame of the assistant's at the level that is right now, and the event of a change.

    pcm: float32 (1920,). audible: there is something in it. duck_db: level while the user speaks;
    0 never changes anything.
    """
    events = []
    if not manners.lowered and audible and manners.n_still == 0 and duck_db < 0:
        manners.lowered = True
        events.append(Event("user_ducked", {"why": "a voice over it: it speaks lower"}))
    elif manners.lowered and manners.n_still >= _RAISE_FRAMES:
        manners.lowered = False
        events.append(Event("user_raised", {"why": "nobody speaks over it any more"}))
    gain_to = from_db(duck_db) if manners.lowered else 1.0
    out, manners.gain = duck(pcm, manners.gain, gain_to), gain_to
    return out, events
