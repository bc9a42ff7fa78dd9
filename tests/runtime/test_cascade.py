"""The cascade's laws in a tiny world where every model computes at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge.config import AudioConfig, Config, TurnsConfig
from edge.frame import SAMPLE_RATE_HZ, Reply
from runtime.engines.assemble import cascade_config
from runtime.engines.cascade_state import CascadeConfig
from runtime.engines.turns import TurnPolicy
from tests.runtime.tones import LengthRecogniser, Sure, World, events, facts, hush, loud_s, tone


def test_a_question_is_answered_in_full() -> None:
    world = World()
    world.hear(hush(0.5), tone(1.0))
    replies = world.until("reply_ended")
    (ended,) = facts(replies, "reply_ended")
    assert ended == {"reply": "You said 5 words. That is all of it.", "interrupted": False}
    assert loud_s(replies) == pytest.approx(9 * 0.25, abs=0.1)
    assert world.engine.idle(world.state)


def test_the_reply_begins_within_the_decision_s_frame() -> None:
    world = World()
    world.hear(hush(0.5), tone(1.0))
    (started,) = facts(world.until("reply_started"), "reply_started")
    latency = started["latency_ms"]
    assert isinstance(latency, dict)
    assert latency["total"] <= 400
    parts = sum(v for k, v in latency.items() if k != "total")
    assert parts == pytest.approx(latency["total"], abs=1)


def test_positions_in_the_stream_are_where_the_sound_is() -> None:
    world = World()
    world.hear(hush(0.48), tone(0.96))
    world.until("reply_started")
    (started,) = facts(world.replies, "reply_started")
    assert started["user_end_s"] == pytest.approx(1.44, abs=0.05)
    said = np.concatenate([r.pcm for r in world.replies])
    first_s = np.flatnonzero(said)[0] / SAMPLE_RATE_HZ
    assert started["reply_start_s"] == pytest.approx(first_s + 0.08, abs=0.002)


def test_equal_sound_gives_equal_replies() -> None:
    a, b = World(), World()
    for world in (a, b):
        world.hear(hush(0.3), tone(0.8), hush(2.0), tone(0.6), hush(4.0))
    assert all(
        np.array_equal(x.pcm, y.pcm) and x.events == y.events
        for x, y in zip(_without_timings(a), _without_timings(b), strict=True)
    )


def _without_timings(world: World) -> list:  # type: ignore[type-arg]
    return [
        replace(r, events=tuple(e for e in r.events if e.kind != "stage")) for r in world.replies
    ]


def test_a_pause_inside_a_sentence_does_not_split_it() -> None:
    world = World(judge=Sure(0.1))
    world.chat.whole_p = 0.01
    world.hear(tone(0.6), hush(0.7), tone(0.6))
    (started,) = facts(world.until("reply_started"), "reply_started")
    assert started["user"] == "word word word word word word."
    assert events(world.replies).count("user_started") == 1
    assert world.state.discarded_ns > 0
    assert len(world.chat.shown) == 1, "half a sentence is not worth a reply"


def test_what_was_answered_is_shown_to_the_language_model_next_time() -> None:
    world = World()
    world.hear(tone(0.6))
    world.until("reply_ended")
    world.hear(hush(0.5), tone(0.4))
    world.until("reply_ended")
    assert world.chat.shown[-1] == (
        "be brief",
        "word word word.",
        "You said 3 words. That is all of it.",
        "word word.",
    )


def test_talking_over_the_assistant_silences_it_and_keeps_what_was_heard() -> None:
    world = World()
    world.hear(tone(0.6))
    world.until("reply_started")
    world.hear(hush(1.4))
    over = world.hear(tone(1.0))
    assert "yielded" in events(over)
    (ended,) = facts(over, "reply_ended")
    assert ended["interrupted"] is True
    assert str(ended["reply"]).startswith("You said 3 words.")
    assert str(ended["reply"]) != "You said 3 words. That is all of it."
    first_quiet = next(i for i, r in enumerate(over) if not np.any(np.abs(r.pcm) > 0.01))
    assert first_quiet <= 2
    assert loud_s(over[first_quiet:]) == 0


def test_a_reply_that_was_silenced_before_its_first_sound_does_not_end_the_one_before() -> None:
    world = World()
    world.hear(tone(0.6))
    world.until("reply_ended")
    world.hushed = True
    world.hear(tone(0.6))
    dropped = events(world.until("unsaid"))
    assert "reply_started" not in dropped
    assert "reply_ended" not in dropped
    assert world.engine.idle(world.state)


def test_a_backchannel_only_makes_it_hold_its_breath() -> None:
    world = World()
    world.hear(tone(0.6))
    world.until("reply_started")
    world.hear(hush(0.5), tone(0.2), hush(0.1))
    (ended,) = facts(world.until("reply_ended"), "reply_ended")
    assert ended == {"reply": "You said 3 words. That is all of it.", "interrupted": False}
    assert "user_backchannel" in events(world.replies)
    assert loud_s(world.replies) == pytest.approx(9 * 0.25, abs=0.12)


def interrupted_by(world: World, heard: str) -> list[Reply]:
    """A reply that is talked over for a second, of which the recogniser makes `heard`."""
    world.hear(tone(0.6))
    world.until("reply_started")
    world.hear(hush(1.4))
    world.recogniser.said = heard
    return world.hear(tone(1.0), hush(4.0))


def test_the_assistant_s_own_words_are_not_answered_and_it_goes_on() -> None:
    world = World()
    over = interrupted_by(world, "you said 3 words")
    told = events(over)
    assert told.index("yielded") < told.index("own_words") < told.index("reply_resumed")
    assert "reply_started" not in told
    assert facts(over, "reply_ended")[-1] == {
        "reply": "You said 3 words. That is all of it.",
        "interrupted": False,
    }
    assert loud_s(world.replies) == pytest.approx(9 * 0.25, abs=0.12)
    assert [turn.reply for turn in world.state.conversation.turns] == [
        "You said 3 words. That is all of it."
    ]


def test_rejecting_its_own_words_can_be_switched_off() -> None:
    world = World(config=CascadeConfig(own_words=False))
    assert "reply_started" in events(interrupted_by(world, "you said 3 words"))


def test_the_same_words_long_after_a_reply_are_the_user_s() -> None:
    world = World()
    world.hear(tone(0.6))
    world.until("reply_ended")
    world.recogniser.said = "you said 3 words"
    world.hear(hush(3.0), tone(1.0))
    assert facts(world.until("reply_started"), "reply_started")[0]["user"] == "you said 3 words"


def test_a_noise_without_words_does_not_end_a_reply_for_good() -> None:
    world = World()
    over = interrupted_by(world, "")
    assert "yielded" in events(over)
    assert events(over).count("reply_resumed") == 1
    assert facts(over, "reply_ended")[-1]["interrupted"] is False
    assert loud_s(world.replies) == pytest.approx(9 * 0.25, abs=0.12)


def test_a_reply_that_was_stopped_never_goes_on() -> None:
    world = World()
    over = interrupted_by(world, "stop")
    assert "stopped" in events(over)
    world.recogniser.said = ""
    later = world.hear(tone(1.0), hush(3.0))
    assert "reply_resumed" not in events(over) + events(later)
    assert loud_s(later) == 0


def test_a_voice_far_below_the_user_s_does_not_silence_the_assistant() -> None:
    for faint_db, yields in ((12.0, False), (0.0, True)):
        world = World(config=CascadeConfig(faint_db=faint_db))
        world.hear(tone(0.6))
        world.until("reply_started")
        over = world.hear(hush(0.4), tone(1.0, level=0.03))
        assert ("yielded" in events(over)) is yields


def test_why_a_voice_is_not_listened_to_is_said_once() -> None:
    world = World(config=CascadeConfig(faint_db=12.0))
    world.hear(tone(0.6))
    world.until("reply_ended")
    over = world.hear(tone(1.5, level=0.03))
    told = [event for reply in over for event in reply.events if event.kind == "faint"]
    assert len(told) == 1
    assert "12 dB or more below the user's" in str(told[0].facts["why"])
    assert "user_started" not in events(over)
    tail = world.hear(tone(0.6), tone(0.1, level=0.03), hush(2.0))  # a word's soft end
    assert "faint" not in events(tail)


def test_every_change_of_state_says_why() -> None:
    world = World()
    world.hear(tone(0.6))
    world.until("reply_started")
    replies = world.hear(hush(0.5), tone(0.2), hush(1.0), tone(1.0), hush(3.0))
    world.recogniser.said = ""
    replies += world.hear(tone(0.6), hush(3.0))
    silent = {"stage", "reply_started", "reply_ended"}
    told = {e.kind: e.facts.get("why") for r in replies for e in r.events if e.kind not in silent}
    assert {"user_started", "user_held", "user_backchannel", "yielded", "user_ended"} <= set(told)
    assert "nothing_said" in told
    assert all(told.values()), told


def test_the_first_chunk_of_a_voice_lowers_the_reply_by_what_was_configured() -> None:
    world = World(config=CascadeConfig(duck_db=-20.0, policy=TurnPolicy(start_chunks=4)))
    world.hear(tone(0.6))
    world.until("reply_started")
    world.hear(hush(0.4))
    ducked, raised = world.hear(tone(0.08)), world.hear(hush(0.24))
    assert "user_ducked" in events(ducked)
    assert "user_raised" in events(raised)
    assert np.abs(ducked[0].pcm[-200:]).max() == pytest.approx(0.02, rel=0.9)
    assert np.abs(ducked[0].pcm[:200]).max() == pytest.approx(0.2, rel=0.1)
    assert np.abs(raised[-1].pcm).max() == pytest.approx(0.2, rel=0.02)


def test_a_stop_word_ends_the_reply_even_when_it_is_short() -> None:
    world = World()
    world.hear(tone(0.6))
    world.until("reply_started")
    world.recogniser.said = "Stop."
    over = world.hear(hush(0.5), tone(0.3), hush(3.0))
    assert "yielded" in events(over)
    assert events(over).count("reply_started") == 0
    assert world.engine.idle(world.state)


def test_a_stop_word_alone_is_not_answered() -> None:
    world = World(recogniser=LengthRecogniser(said="Stop"))
    world.hear(tone(0.4))
    replies = world.until("stopped")
    assert loud_s(replies) == 0
    assert world.chat.shown == [] or loud_s(world.hear(hush(2.0))) == 0


def test_half_a_question_answered_too_early_is_joined_with_its_rest() -> None:
    world = World()
    world.hear(tone(0.6))
    world.until("reply_started")
    world.hear(tone(0.8))
    started = facts(world.until("reply_ended"), "reply_started")
    assert str(started[-1]["user"]).startswith("word word word. word")
    assert len(world.state.conversation.turns) == 1


def test_noise_without_words_is_not_answered() -> None:
    world = World(recogniser=LengthRecogniser(said=""))
    replies = world.hear(tone(0.4), hush(3.0))
    assert loud_s(replies) == 0
    assert "nothing_said" in events(replies)
    assert world.engine.idle(world.state)


def test_without_preparing_ahead_nothing_is_ever_thrown_away() -> None:
    world = World(config=CascadeConfig(ahead=False, policy=TurnPolicy(adaptive=False)))
    world.hear(tone(0.6), hush(0.4), tone(0.6))
    (ended,) = facts(world.until("reply_ended"), "reply_ended")
    assert ended["interrupted"] is False
    assert world.state.discarded_ns == 0
    assert len(world.recogniser.heard_s) == 1


def test_a_long_conversation_stays_within_its_budget() -> None:
    world = World(config=CascadeConfig(budget_tokens=60))
    for _ in range(12):
        world.hear(tone(0.6))
        world.until("reply_ended")
        world.hear(hush(0.3))
    assert all(sum(len(m.split()) for m in shown) <= 66 for shown in world.chat.shown)
    assert world.chat.shown[-1][0] == "be brief"


def test_push_to_talk_answers_what_was_said_while_the_key_was_down_and_nothing_else() -> None:
    world = World(config=CascadeConfig(policy=TurnPolicy(push_to_talk=True)))
    world.hear(tone(1.0), hush(2.0))
    assert events(world.replies) == []
    world.key_down = True
    world.hear(hush(0.4), tone(0.6), hush(1.2), tone(0.4))
    assert "reply_started" not in events(world.replies), "no pause ends a turn"
    world.key_down = False
    (started,) = facts(world.until("reply_started"), "reply_started")
    assert str(started["user"]).count("word") >= 5
    world.hear(hush(0.4))
    world.key_down = True
    assert "yielded" in events(world.hear(hush(0.2)))


@pytest.mark.parametrize("policy", ["adaptive", "fixed", "push-to-talk"])
def test_a_policy_is_picked_by_configuration(policy: str) -> None:
    turns = TurnsConfig(
        policy=policy, end_silence_ms=500, backchannel_ms=300, faint_db=9, stop_words=("halt",)
    )
    made = cascade_config(Config(turns=turns, audio=AudioConfig(duck_db=-6.0)))
    assert (made.policy.adaptive, made.policy.push_to_talk) == (
        policy == "adaptive",
        policy == "push-to-talk",
    )
    assert (made.policy.patient_ms, made.policy.backchannel_ms) == (500, 300)
    assert (made.stop_words, made.duck_db, made.faint_db) == (("halt",), -6.0, 9)
    assert cascade_config(Config(turns=replace(turns, ahead=False))).ahead is False


def test_each_end_hold_and_resumption_says_why() -> None:
    world = World()
    interrupted_by(world, "")
    told = {e.kind: e.facts for r in world.replies for e in r.events}
    for kind in ("user_ended", "user_held", "user_yielded", "reply_resumed"):
        assert told[kind]["why"]
