"""Whose turn it is: a pure state machine over 32 ms chunks. No audio and no models in it.

The user's side of a conversation moves between three phases:

    SILENT --speech--> SPEAKING --quiet--> PAUSED --long enough--> SILENT (the turn has ended)
                           ^------speech------'   (the user goes on)

How long is long enough depends on what was said: short after a finished sentence, long after
"and..." or where the end-of-turn model hears an open voice. While the assistant is audible, speech
is first a suspicion: the assistant holds its breath at once (HELD); a back-channel ("mhm") lets it
go on where it was (BACKCHANNEL), anything longer is an interruption (YIELDED). Before the breath,
from the very first chunk, it only lowers its voice (DUCKED) and raises it again if nothing follows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum

CHUNK_MS = 32

# Words whose chance to be a whole sentence is below this are taken to be left open. Measured with
# the starter language model: finished questions 0.04 to 0.98, beginnings of them 0.00 to 0.03.
OPEN_P = 0.03

_OPEN_ENDING = re.compile(
    r"\b(and|or|but|so|because|if|when|that|which|who|the|a|an|of|to|in|on|at|for|with|from|is|are|"
    r"was|my|your|their|his|her|its|um|uh|er|like|please|what's|i|we|you|then|than|as|by)\W*$",
    re.IGNORECASE,
)
_CUT_SHORT = re.compile(r"(\.\.\.|…|,|-|—|:)\s*$")


class Phase(Enum):
    """What the user is doing."""

    SILENT = "silent"
    SPEAKING = "speaking"
    PAUSED = "paused"


class Decision(Enum):
    """What the machine tells the engine to do."""

    STARTED = "started"  # the user begins to speak
    PAUSED = "paused"  # a pause: prepare a reply, it may be the end
    RESUMED = "resumed"  # the user goes on: forget what was prepared
    ENDED = "ended"  # the user's turn is over: say the reply
    DUCKED = "ducked"  # perhaps a voice over the assistant: speak lower
    RAISED = "raised"  # nothing came of it: speak as before
    HELD = "held"  # a voice over the assistant: be silent now, it may be an interruption
    YIELDED = "yielded"  # it is one: the rest of the reply is not said
    BACKCHANNEL = "backchannel"  # it was a short "mhm": carry on where the reply was held
    DROPPED = "dropped"  # too short to be speech: forget it


@dataclass(frozen=True, slots=True)
class TurnPolicy:
    """When a turn starts, ends, and interrupts. Times in milliseconds, probabilities 0..1.

    adaptive: use the sound and the words; else `patient_ms` alone decides. quick, steady, patient,
    open: the silence that is needed where the signs agree, half agree, say nothing, say "more".
    push_to_talk: only the talk key starts and ends turns.
    """

    adaptive: bool = True
    push_to_talk: bool = False
    start_p: float = 0.5
    keep_p: float = 0.35
    start_chunks: int = 2
    pause_ms: int = 32
    quick_ms: int = 224
    steady_ms: int = 416
    patient_ms: int = 832
    open_ms: int = 1_312
    finished_p: float = 0.5
    whole_p: float = 0.1
    barge_in: bool = True
    backchannel_ms: int = 384
    shortest_ms: int = 96


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known at one chunk.

    speech_p: voice activity of this chunk. playing: the assistant is audible now.
    faint: so far below the user's own level that it is somebody else, or the rest of an echo.
    finished_p: the end-of-turn model's word on the present pause, by its sound; None while it
    computes. whole_p: the language model's, by the words.
    text: the recogniser's latest text of this turn, None if there is none yet.
    talk_key: held down (push-to-talk only).
    """

    speech_p: float
    playing: bool = False
    faint: bool = False
    finished_p: float | None = None
    whole_p: float | None = None
    text: str | None = None
    talk_key: bool = False


@dataclass(frozen=True, slots=True)
class TurnState:
    """Where the user's turn stands; all times in chunks of 32 ms.

    n_chunk: chunks seen. n_run: consecutive chunks above the start threshold.
    n_voiced: voiced chunks in this turn. n_quiet: chunks since the last voiced one.
    started_at: chunk in which the turn began. over_assistant: it began over the assistant's voice,
    which holds its breath and has not yielded (yet). ducked: the assistant speaks lower, because
    of one chunk. why: the last decision's reason, for people.
    """

    phase: Phase = Phase.SILENT
    n_chunk: int = 0
    n_run: int = 0
    n_voiced: int = 0
    n_quiet: int = 0
    started_at: int = 0
    over_assistant: bool = False
    ducked: bool = False
    why: str = ""


def needed_silence_ms(policy: TurnPolicy, heard: Heard) -> tuple[int, str]:
    """How long the present pause must last to end the turn, and why in words."""
    if not policy.adaptive:
        return policy.patient_ms, "fixed silence"
    sound_p, words_p = heard.finished_p, heard.whole_p
    text = (heard.text or "").strip()
    if _CUT_SHORT.search(text) or (words_p is None and _OPEN_ENDING.search(text)):
        return policy.open_ms, "the words are left open"
    if words_p is not None and words_p < OPEN_P:
        return policy.open_ms, f"not a whole sentence ({words_p:.2f})"
    if sound_p is None or words_p is None:
        return policy.patient_ms, "nothing known yet"
    said = f"sounds finished {sound_p:.2f}, whole sentence {words_p:.2f}"
    if sound_p >= policy.finished_p and words_p >= policy.whole_p:
        return policy.quick_ms, said
    if sound_p >= policy.finished_p or words_p >= 1 - policy.finished_p:
        return policy.steady_ms, said
    return policy.patient_ms, said


def step(
    policy: TurnPolicy, state: TurnState, heard: Heard
) -> tuple[TurnState, tuple[Decision, ...]]:
    """Fold one 32 ms chunk in; returns the next state and what was decided, in order."""
    if policy.push_to_talk:
        return _step_key(state, heard)
    level = policy.start_p if state.phase is Phase.SILENT else policy.keep_p
    # What is far below the user is somebody else: it opens no turn and holds none open.
    voiced = heard.speech_p >= level and not heard.faint
    state = replace(state, n_chunk=state.n_chunk + 1, n_run=state.n_run + 1 if voiced else 0)
    if state.phase is Phase.SILENT:
        return _from_silent(policy, state, heard)
    if voiced:
        return _voiced(policy, state)
    return _quiet(policy, state, heard)


def _from_silent(
    policy: TurnPolicy, state: TurnState, heard: Heard
) -> tuple[TurnState, tuple[Decision, ...]]:
    if state.n_run < policy.start_chunks:
        return _perhaps_lower(policy, state, heard)
    begun = replace(
        state,
        phase=Phase.SPEAKING,
        ducked=False,
        n_voiced=state.n_run,
        n_quiet=0,
        started_at=state.n_chunk - state.n_run,
        over_assistant=heard.playing,
        why="speech over the assistant" if heard.playing else "speech",
    )
    if heard.playing and policy.barge_in:
        return begun, (Decision.STARTED, Decision.HELD)
    return begun, (Decision.STARTED,)


def _perhaps_lower(
    policy: TurnPolicy, state: TurnState, heard: Heard
) -> tuple[TurnState, tuple[Decision, ...]]:
    """Too little for a turn: the assistant speaks lower while there is any, and then as before."""
    suspected = state.n_run > 0 and heard.playing and policy.barge_in
    if suspected and not state.ducked:
        return replace(state, ducked=True, why="perhaps a voice over it"), (Decision.DUCKED,)
    if state.ducked and not suspected:
        return replace(state, ducked=False, why="no voice after all"), (Decision.RAISED,)
    return state, ()


def _voiced(policy: TurnPolicy, state: TurnState) -> tuple[TurnState, tuple[Decision, ...]]:
    decisions: list[Decision] = []
    if state.phase is Phase.PAUSED:
        decisions.append(Decision.RESUMED)
        state = replace(state, why="goes on")
    state = replace(state, phase=Phase.SPEAKING, n_voiced=state.n_voiced + 1, n_quiet=0)
    if state.over_assistant and state.n_voiced * CHUNK_MS > policy.backchannel_ms:
        state = replace(state, over_assistant=False, why="talked over the assistant")
        if policy.barge_in:
            decisions.append(Decision.YIELDED)
    return state, tuple(decisions)


def _quiet(
    policy: TurnPolicy, state: TurnState, heard: Heard
) -> tuple[TurnState, tuple[Decision, ...]]:
    state = replace(state, n_quiet=state.n_quiet + 1)
    quiet_ms = state.n_quiet * CHUNK_MS
    if state.phase is Phase.SPEAKING:
        if quiet_ms < policy.pause_ms:
            return state, ()
        if state.over_assistant:
            return replace(state, phase=Phase.PAUSED), (Decision.PAUSED,)
        if state.n_voiced * CHUNK_MS < policy.shortest_ms:
            return _silent(state, "too short for speech"), (Decision.DROPPED,)
        return replace(state, phase=Phase.PAUSED), (Decision.PAUSED,)
    if state.over_assistant:
        return _maybe_backchannel(policy, state, quiet_ms)
    needed_ms, why = needed_silence_ms(policy, heard)
    if quiet_ms < needed_ms:
        return replace(state, why=f"held: {why}, {quiet_ms} of {needed_ms} ms"), ()
    return _silent(state, f"ended: {why}, {quiet_ms} ms of silence"), (Decision.ENDED,)


def _maybe_backchannel(
    policy: TurnPolicy, state: TurnState, quiet_ms: int
) -> tuple[TurnState, tuple[Decision, ...]]:
    if quiet_ms < policy.quick_ms:
        return state, ()
    return _silent(state, "a short sound while the assistant speaks"), (Decision.BACKCHANNEL,)


def _step_key(state: TurnState, heard: Heard) -> tuple[TurnState, tuple[Decision, ...]]:
    state = replace(state, n_chunk=state.n_chunk + 1)
    if heard.talk_key and state.phase is Phase.SILENT:
        begun = replace(state, phase=Phase.SPEAKING, started_at=state.n_chunk, why="talk key")
        stop = (Decision.HELD, Decision.YIELDED) if heard.playing else ()
        return begun, (Decision.STARTED, *stop)
    if not heard.talk_key and state.phase is not Phase.SILENT:
        ended = _silent(state, "talk key released")
        return ended, (Decision.PAUSED, Decision.ENDED)
    return state, ()


def _silent(state: TurnState, why: str) -> TurnState:
    return replace(
        state, phase=Phase.SILENT, n_run=0, n_voiced=0, n_quiet=0, over_assistant=False, why=why
    )
