"""A device that vanished: when to give it up and when to try again. Pure, no hardware."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

FIRST_WAIT_NS = 250_000_000
LONGEST_WAIT_NS = 4_000_000_000
# A device that ran for less than this before it vanished again is tried ever less often.
STEADY_NS = 10_000_000_000


class Phase(Enum):
    """RUNNING: sound flows. WAITING: until the next attempt. OPENING: an attempt is under way."""

    RUNNING = "running"
    WAITING = "waiting"
    OPENING = "opening"


class Attempt(Enum):
    """How the attempt under way stands."""

    NO_NEWS = "no news"
    OPENED = "opened"
    FAILED = "failed"


class Action(Enum):
    """What the port does next."""

    NONE = "none"
    GIVE_UP = "give up"  # sound has stopped: forget the stream, play and hear silence
    OPEN = "open"  # close what is left of it and try to open again
    RESUME = "resume"  # take the new stream into use


@dataclass(frozen=True, slots=True)
class Recovery:
    """wait_ns: the wait before the attempt after next. steady_from_ns: when to call it steady."""

    phase: Phase = Phase.RUNNING
    retry_at_ns: int = 0
    wait_ns: int = FIRST_WAIT_NS
    steady_from_ns: int = 0
    n_reopened: int = 0


def is_alive(now_ns: int, *, last_block_ns: int, finished: bool, patience_ns: int) -> bool:
    """Tell whether a stream still runs: it has not ended by itself and its last block is recent."""
    return not finished and now_ns - last_block_ns <= patience_ns


def advance(
    state: Recovery, now_ns: int, *, alive: bool, attempt: Attempt
) -> tuple[Recovery, Action]:
    """Fold one look at the device into the state.

    alive: is_alive() of the stream in use; only asked while RUNNING. attempt: news of the attempt
    under way; only asked while OPENING. Waits are 0.25 s, doubling to 4 s.
    """
    if state.phase is Phase.RUNNING and not alive:
        steady = now_ns >= state.steady_from_ns
        wait_ns = FIRST_WAIT_NS if steady else state.wait_ns
        return _wait(state, now_ns, wait_ns), Action.GIVE_UP
    if state.phase is Phase.WAITING and now_ns >= state.retry_at_ns:
        return replace(state, phase=Phase.OPENING), Action.OPEN
    if state.phase is Phase.OPENING and attempt is Attempt.FAILED:
        return _wait(state, now_ns, state.wait_ns), Action.NONE
    if state.phase is Phase.OPENING and attempt is Attempt.OPENED:
        resumed = replace(
            state,
            phase=Phase.RUNNING,
            steady_from_ns=now_ns + STEADY_NS,
            n_reopened=state.n_reopened + 1,
        )
        return resumed, Action.RESUME
    return state, Action.NONE


def _wait(state: Recovery, now_ns: int, wait_ns: int) -> Recovery:
    return replace(
        state,
        phase=Phase.WAITING,
        retry_at_ns=now_ns + wait_ns,
        wait_ns=min(2 * wait_ns, LONGEST_WAIT_NS),
    )
