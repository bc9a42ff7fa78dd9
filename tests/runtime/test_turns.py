"""The turn machine's laws, over chunks that a test writes down."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from runtime.engines.turns import CHUNK_MS, Decision, Heard, Phase, TurnPolicy, TurnState, step

POLICY = TurnPolicy()
SPEECH, QUIET = Heard(0.9), Heard(0.05)


def play(
    chunks: Iterable[Heard], policy: TurnPolicy = POLICY, state: TurnState | None = None
) -> tuple[TurnState, list[tuple[int, Decision]]]:
    """Run chunks through; decisions with the chunk (from 0) they fell in."""
    state = state or TurnState()
    made: list[tuple[int, Decision]] = []
    for i, heard in enumerate(chunks):
        state, decisions = step(policy, state, heard)
        made += [(i, d) for d in decisions]
    return state, made


def kinds(made: list[tuple[int, Decision]]) -> list[Decision]:
    return [d for _, d in made]


def quiet_until_end(heard: Heard) -> int:
    """Milliseconds of silence after speech until the turn ends."""
    _, made = play([SPEECH] * 20 + [heard] * 100)
    return next((i - 19) * CHUNK_MS for i, d in made if d is Decision.ENDED)


def test_speech_starts_a_turn_and_silence_ends_it() -> None:
    state, made = play([QUIET] * 5 + [SPEECH] * 20 + [QUIET] * 60)
    assert kinds(made) == [Decision.STARTED, Decision.PAUSED, Decision.ENDED]
    assert state.phase is Phase.SILENT


def test_one_loud_chunk_is_not_speech() -> None:
    _, made = play([QUIET, SPEECH, QUIET, QUIET, SPEECH, QUIET] * 5)
    assert made == []


def test_a_click_of_two_chunks_is_dropped() -> None:
    _, made = play([SPEECH] * 2 + [QUIET] * 30)
    assert kinds(made) == [Decision.STARTED, Decision.DROPPED]


def test_going_on_after_a_pause_resumes_the_same_turn() -> None:
    _, made = play([SPEECH] * 20 + [QUIET] * 10 + [SPEECH] * 20 + [QUIET] * 60)
    assert kinds(made) == [
        Decision.STARTED,
        Decision.PAUSED,
        Decision.RESUMED,
        Decision.PAUSED,
        Decision.ENDED,
    ]


def test_the_more_signs_agree_the_sooner_a_turn_ends() -> None:
    agreed = quiet_until_end(Heard(0.0, finished_p=0.9, whole_p=0.5, text="What time is it?"))
    likely = quiet_until_end(Heard(0.0, finished_p=0.9, whole_p=0.05, text="Stop the music"))
    unsure = quiet_until_end(Heard(0.0, finished_p=0.2, whole_p=0.2, text="What time is it"))
    unknown = quiet_until_end(Heard(0.0))
    held = quiet_until_end(Heard(0.0, finished_p=0.95, whole_p=0.001, text="What time is"))
    assert agreed < likely < unsure == unknown < held
    assert agreed <= 256


@pytest.mark.parametrize("text", ["and", "I want to", "the big,", "so...", "give me the"])
def test_open_words_hold_the_turn_through_a_pause_of_seven_tenths(text: str) -> None:
    assert quiet_until_end(Heard(0.0, finished_p=0.9, text=text)) > 700


def test_a_sentence_that_is_not_whole_is_held_whatever_mark_was_put_at_its_end() -> None:
    assert quiet_until_end(Heard(0.0, finished_p=0.99, whole_p=0.0, text="Can you tell me.")) > 700


def test_without_adaptation_only_the_fixed_silence_counts() -> None:
    policy = TurnPolicy(adaptive=False, patient_ms=640)
    _, made = play([SPEECH] * 20 + [Heard(0.0, finished_p=0.99, text="Yes.")] * 60, policy)
    ended = next(i for i, d in made if d is Decision.ENDED)
    assert (ended - 19) * CHUNK_MS == 640


def test_speech_over_the_assistant_holds_it_after_two_chunks() -> None:
    _, made = play([Heard(0.9, playing=True)] * 2)
    assert made == [(0, Decision.DUCKED), (1, Decision.STARTED), (1, Decision.HELD)]


def test_a_single_chunk_over_the_assistant_only_lowers_its_voice_for_a_moment() -> None:
    over, after = Heard(0.9, playing=True), Heard(0.05, playing=True)
    state, made = play([after, over, after, after])
    assert made == [(1, Decision.DUCKED), (2, Decision.RAISED)]
    assert state.phase is Phase.SILENT


def test_a_faint_voice_over_the_assistant_is_not_the_user_s() -> None:
    _, made = play([Heard(0.95, playing=True, faint=True)] * 60)
    assert made == []


def test_a_faint_voice_neither_opens_a_turn_nor_holds_one_open() -> None:
    faint = Heard(0.95, faint=True)
    _, made = play([faint] * 20 + [SPEECH] * 20 + [faint] * 60)
    assert kinds(made) == [Decision.STARTED, Decision.PAUSED, Decision.ENDED]


def test_babble_under_an_interruption_does_not_keep_it_alive() -> None:
    """After a short sound over the assistant what is far below it counts as quiet."""
    over, babble = Heard(0.9, playing=True), Heard(0.9, playing=True, faint=True)
    _, made = play([over] * 6 + [babble] * 30)
    assert Decision.BACKCHANNEL in kinds(made)
    assert Decision.YIELDED not in kinds(made)


@pytest.mark.parametrize("n_before", range(6))
def test_every_lowering_is_followed_by_a_raising_or_a_hold(n_before: int) -> None:
    over, after = Heard(0.9, playing=True), Heard(0.05, playing=True)
    _, made = play([after] * n_before + [over, after] * 5 + [over] * 20)
    told = [d for d in kinds(made) if d in (Decision.DUCKED, Decision.RAISED, Decision.HELD)]
    assert told[::2] == [Decision.DUCKED] * 6
    assert told[1::2] == [Decision.RAISED] * 5 + [Decision.HELD]


def test_a_backchannel_lets_the_assistant_go_on() -> None:
    over, after = Heard(0.9, playing=True), Heard(0.05, playing=True)
    state, made = play([over] * 8 + [after] * 30)
    assert kinds(made) == [
        Decision.DUCKED,
        Decision.STARTED,
        Decision.HELD,
        Decision.PAUSED,
        Decision.BACKCHANNEL,
    ]
    assert state.phase is Phase.SILENT


def test_longer_speech_makes_the_assistant_yield_once() -> None:
    _, made = play([Heard(0.9, playing=True)] * 40)
    assert kinds(made).count(Decision.YIELDED) == 1
    when = next(i for i, d in made if d is Decision.YIELDED)
    assert POLICY.backchannel_ms < (when + 1) * CHUNK_MS <= POLICY.backchannel_ms + 2 * CHUNK_MS


def test_without_barge_in_the_assistant_is_never_held() -> None:
    _, made = play([Heard(0.9, playing=True)] * 40, TurnPolicy(barge_in=False))
    assert {Decision.HELD, Decision.DUCKED}.isdisjoint(kinds(made))
    assert Decision.YIELDED not in kinds(made)


def test_push_to_talk_listens_only_while_the_key_is_down() -> None:
    policy = TurnPolicy(push_to_talk=True)
    down, up = Heard(0.9, talk_key=True), Heard(0.9)
    _, made = play([up] * 10 + [down] * 10 + [up] * 10, policy)
    assert made == [
        (10, Decision.STARTED),
        (20, Decision.PAUSED),
        (20, Decision.ENDED),
    ]


def test_the_state_passed_in_is_not_changed() -> None:
    before = TurnState()
    step(POLICY, before, SPEECH)
    assert before == TurnState()


def test_every_end_and_every_hold_has_a_reason() -> None:
    state = TurnState()
    for heard in [SPEECH] * 20 + [QUIET] * 10:
        state, _ = step(POLICY, state, heard)
    assert "held" in state.why
    for heard in [QUIET] * 60:
        state, _ = step(POLICY, state, heard)
    assert "ended" in state.why
