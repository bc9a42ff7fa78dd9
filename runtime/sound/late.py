"""What happens to sound when the loop is late: the one policy, as two pure functions.

The newest sound counts. Frames of microphone that have piled up are dropped, oldest first; where no
reply is there in time the speaker plays silence. Replies that have piled up because of that silence
are never kept as latency: the queue is brought back to its cushion in the next quiet moment, and
cut, oldest first, should none come.
"""

from __future__ import annotations


def catch_up(n_pending: int, max_behind: int) -> int:
    """Tell how many of the oldest n_pending whole frames to drop: all beyond max_behind.

    Used for both directions; max_behind >= 1 for the microphone, which must keep a frame to give.
    """
    return max(0, n_pending - max_behind)


def recentre(n_pending: int, n_cushion: int, *, n_tolerance: int) -> int:
    """Tell by how many samples a quiet frame should be lengthened (> 0) or shortened (< 0).

    n_pending: samples that wait to be played before this frame is queued. n_cushion: as many as
    should. Within n_tolerance nothing is done, because every change moves the echo too.
    """
    n_missing = n_cushion - n_pending
    return 0 if abs(n_missing) <= n_tolerance else n_missing
