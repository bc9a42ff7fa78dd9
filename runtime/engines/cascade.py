"""The cascade: voice activity -> turns -> recogniser -> language model -> voice, as one engine.

A step hears 80 ms, folds it into the turn machine, acts on what that decides, and plays 80 ms of
whatever is ready. Everything slow happens in drafts (draft.py) on workers; a step never waits.
"""

from __future__ import annotations

from collections.abc import Callable

from edge.errors import ConfigError
from edge.frame import FRAME_NS, FRAME_SAMPLES, SAMPLE_RATE_HZ, Event, Frame, Reply, silence
from runtime.engines import turns
from runtime.engines.cascade_state import CascadeConfig, CascadeState
from runtime.engines.context import Conversation, messages
from runtime.engines.draft import Draft, DraftMaker
from runtime.engines.engine import Context
from runtime.engines.facts import stage_events
from runtime.engines.loudness import hear
from runtime.engines.playback import Saying, hold, lower, release
from runtime.engines.replying import Replying
from runtime.engines.roles import CHUNK_SAMPLES, EAR_RATE_HZ, Float32
from runtime.engines.turns import Decision, Heard, Phase, TurnState
from runtime.trace import Span

_PRE_ROLL_SAMPLES = EAR_RATE_HZ * 3 // 10
_AHEAD_SAMPLES = EAR_RATE_HZ  # at most one recogniser call ahead a second
_JUDGE_AGAIN_CHUNKS = 8
_JUDGED_PAUSE_SAMPLES = EAR_RATE_HZ // 10
_BANK_SAMPLES = 20 * EAR_RATE_HZ  # longer turns are recognised piece by piece at their pauses
_SURELY_SPEECH = 0.8
_FAINT_AGAIN_SAMPLES = 2 * EAR_RATE_HZ
_FAINT_CHUNKS = 6  # the soft end of the user's own word is shorter


class CascadeEngine:
    """Engine over any models that fill the roles; owns them and their workers."""

    def __init__(
        self,
        maker: DraftMaker,
        config: CascadeConfig | None = None,
        talk_key: Callable[[], bool] = lambda: False,
        hush: Callable[[], bool] = lambda: False,
    ) -> None:
        """talk_key: whether the key is held down now; asked in each chunk under push-to-talk.

        hush: whether the assistant was told to be silent since the last question; once a frame.
        """
        self._maker = maker
        self._config = config or CascadeConfig()
        self._replying = Replying(maker, self._config)
        self._talk_key, self._hush = talk_key, hush

    def warm_up(self) -> None:
        """Run each model once, so that the first turn is as quick as any."""
        roles = self._maker.roles
        quiet = silence()[: FRAME_SAMPLES * EAR_RATE_HZ // SAMPLE_RATE_HZ]
        roles.voice_activity().probability(quiet[:CHUNK_SAMPLES])
        roles.recogniser.warm_up()
        if roles.end_of_turn is not None:
            roles.end_of_turn.probability(quiet)
        roles.speaker.speak(roles.speakable("Ready."), seed=0)

    def start(self, *, seed: int, context: Context) -> CascadeState:
        roles = self._maker.roles
        opening = messages(Conversation(context), "")
        n_opening = roles.chat.count_tokens(opening)
        if n_opening > self._config.budget_tokens:
            raise ConfigError(
                f"the prompt takes {n_opening} tokens, but [context] budget_tokens is "
                f"{self._config.budget_tokens}: shorten the prompt or raise the budget"
            )
        conversation = Conversation(context, n_opening_tokens=n_opening)
        chat = roles.chat.start(seed=seed, opening=opening)
        return CascadeState(conversation, chat, roles.voice_activity(), seed)

    def idle(self, state: CascadeState) -> bool:
        quiet = state.turn.phase is Phase.SILENT and state.turn.n_run == 0
        return quiet and state.saying is None and self._maker.crew.idle()

    def finish(self, state: CascadeState) -> None:
        state.turn = TurnState()  # nobody is speaking any more: work ahead is not wanted
        for draft in (state.draft, state.saying.draft if state.saying else None):
            if draft is not None:
                self._maker.drop(draft)
        self._maker.crew.mind.submit(lambda: self._maker.roles.chat.finish(state.chat))

    def crew_idle(self) -> bool:
        """No worker computes and nothing waits; what a FastClock asks."""
        return self._maker.crew.idle()

    def close(self) -> None:
        """End the workers; no conversation may be stepped after it."""
        self._maker.crew.close()

    def step(self, state: CascadeState, frame: Frame) -> tuple[CascadeState, Reply]:
        events: list[Event] = []
        for chunk in state.ear.hear(frame.pcm):
            probability = state.activity.probability(chunk)
            self._listen_to_level(state, chunk, probability)
            faint = self._is_faint(state)
            if probability >= self._config.policy.keep_p and not faint:
                state.voiced_until = state.ear.n_heard
            is_faint = faint and probability >= self._config.policy.start_p
            state.n_faint = state.n_faint + 1 if is_faint else 0
            if state.n_faint >= _FAINT_CHUNKS:
                self._say_it_is_faint(state, events)
            heard = self._heard(state, probability)
            state.turn, decisions = turns.step(self._config.policy, state.turn, heard)
            for decision in decisions:
                self._act(state, decision, frame, events)
            self._while_open(state)
        if self._hush():
            self._replying.give_way(state, events, "told to be silent")
            state.cut = None  # told to be silent, it does not take the reply up again
        pcm, text = self._replying.say(state, frame, events)
        self._report_work(state, events)
        return state, Reply(frame.index, pcm, text, tuple(events))

    def _heard(self, state: CascadeState, probability: float) -> Heard:
        draft, saying = state.draft, state.saying
        return Heard(
            probability,
            playing=saying is not None and saying.audible,
            faint=self._is_faint(state),
            finished_p=draft.finished_p if draft else None,
            whole_p=draft.whole_p if draft else None,
            text=draft.text if draft else None,
            talk_key=self._talk_key(),
        )

    def _is_faint(self, state: CascadeState) -> bool:
        in_turn = state.turn.phase is not Phase.SILENT and not state.turn.over_assistant
        return state.loudness.is_faint(self._config.faint_db, in_turn=in_turn)

    def _say_it_is_faint(self, state: CascadeState, events: list[Event]) -> None:
        """Why a voice is not listened to, once until it has been silent for a while."""
        at = state.ear.n_heard
        if at - state.faint_at > _FAINT_AGAIN_SAMPLES:
            why = (
                f"a voice {self._config.faint_db:.0f} dB or more below the user's: somebody else's"
            )
            events.append(Event("faint", {"why": why, "at_s": round(at / EAR_RATE_HZ, 3)}))
        state.faint_at = at

    @staticmethod
    def _listen_to_level(state: CascadeState, chunk: Float32, probability: float) -> None:
        turn = state.turn
        sure = turn.phase is Phase.SPEAKING and not turn.over_assistant
        is_user = sure and probability >= _SURELY_SPEECH
        state.loudness = hear(state.loudness, chunk, is_user=is_user)

    def _act(
        self, state: CascadeState, decision: Decision, frame: Frame, events: list[Event]
    ) -> None:
        """Do what the turn machine decided, and say so."""
        why = {"why": state.turn.why, "at_s": round(state.ear.n_heard / EAR_RATE_HZ, 3)}
        if decision is Decision.STARTED:
            self._user_starts(state)
        elif decision is Decision.PAUSED:
            self._prepare(state)
        elif decision in (Decision.RESUMED, Decision.DROPPED):
            self._forget_draft(state)
        elif decision is Decision.ENDED:
            self._turn_ends(state, frame)
        elif decision is Decision.HELD and state.saying is not None:
            hold(state.saying)
        elif decision is Decision.DUCKED and state.saying is not None:
            lower(state.saying, self._config.duck_db)
        elif decision is Decision.RAISED and state.saying is not None:
            lower(state.saying, 0.0)
        elif decision is Decision.YIELDED:
            self._replying.give_way(state, events, state.turn.why)
        elif decision is Decision.BACKCHANNEL:
            self._after_backchannel(state, events)
        events.append(Event(f"user_{decision.value}", why))

    def _user_starts(self, state: CascadeState) -> None:
        run = state.turn.n_run * CHUNK_SAMPLES
        begun_at = max(0, state.ear.n_heard - run - _PRE_ROLL_SAMPLES)
        saying = state.saying
        if saying is not None and saying.n_played == 0:
            # The user goes on before a sound of the reply was heard: it was not the end after all.
            self._replying.discard(state, saying.draft)
            state.saying = None
        else:
            state.begun_at, state.before = begun_at, ""
        state.ahead_at, state.ahead_text = state.ear.n_heard, ""

    def _prepare(self, state: CascadeState) -> None:
        """A pause: make the reply that is right if this was the end."""
        over = state.turn.over_assistant
        if not over and not self._config.ahead:
            return
        self._begin_draft(state, words_only=over)

    def _begin_draft(self, state: CascadeState, *, words_only: bool = False) -> Draft:
        self._forget_draft(state)
        state.seed += 1
        draft = Draft(
            state.ear.since(state.begun_at),
            state.conversation,
            state.before,
            words_only=words_only,
            seed=state.seed,
        )
        state.draft, state.judged_at = draft, state.turn.n_chunk
        self._maker.begin(draft, state.chat)
        return draft

    def _forget_draft(self, state: CascadeState) -> None:
        draft, state.draft = state.draft, None
        if draft is None:
            return
        if draft.text and len(draft.pcm_16k) > _BANK_SAMPLES and not draft.words_only:
            state.before, state.begun_at = draft.text, state.ear.n_heard - _PRE_ROLL_SAMPLES
        self._replying.discard(state, draft)

    def _turn_ends(self, state: CascadeState, frame: Frame) -> None:
        draft = state.draft or self._begin_draft(state)
        state.draft = None
        state.ended_at_ns = self._maker.now_ns()
        since_ns = (frame.index + 1) * FRAME_NS - state.voiced_until * 1_000_000_000 // EAR_RATE_HZ
        state.user_end_ns = frame.captured_ns - since_ns
        state.saying = Saying(draft)
        self._maker.confirm(draft, state.chat)

    def _while_open(self, state: CascadeState) -> None:
        """Within a turn: judge a long pause again, listen ahead while there is speech."""
        if not self._config.ahead or state.turn.over_assistant:
            return
        if state.turn.phase is Phase.PAUSED and state.draft is not None:
            if state.turn.n_chunk - state.judged_at >= _JUDGE_AGAIN_CHUNKS:
                state.judged_at = state.turn.n_chunk
                self._maker.judge(state.draft, self._until_speech_ended(state))
        elif (
            state.turn.phase is Phase.SPEAKING
            and state.ear.n_heard - state.ahead_at >= _AHEAD_SAMPLES
            and self._maker.crew.ear.idle()
        ):
            self._listen_ahead(state)

    @staticmethod
    def _until_speech_ended(state: CascadeState) -> Float32:
        """The turn without most of its pause, which would make it sound finished."""
        late = state.ear.n_heard - state.voiced_until - _JUDGED_PAUSE_SAMPLES
        heard = state.ear.since(state.begun_at)
        return heard[: len(heard) - max(0, late)]

    def _listen_ahead(self, state: CascadeState) -> None:
        """Recognise what has been said so far and let the language model read it."""
        state.ahead_at = state.ear.n_heard
        turn_began = state.turn.started_at

        def wanted() -> bool:
            return state.turn.phase is Phase.SPEAKING and state.turn.started_at == turn_began

        self._maker.listen_ahead(
            state.ear.since(state.begun_at),
            state.conversation,
            state.before,
            state.chat,
            wanted,
            lambda words, span: self._heard_ahead(state, words, span),
        )

    @staticmethod
    def _heard_ahead(state: CascadeState, words: str, span: Span) -> None:
        state.ahead_text = words or state.ahead_text
        state.spans.append(span)

    def _after_backchannel(self, state: CascadeState, events: list[Event]) -> None:
        said = state.draft.text or "" if state.draft else ""
        self._forget_draft(state)
        if self._replying.is_stop_word(said):
            self._replying.give_way(state, events, "a stop word")
            state.cut = None
        elif state.saying is not None:
            release(state.saying)

    def _report_work(self, state: CascadeState, events: list[Event]) -> None:
        """Pass finished stages on to the trace."""
        spans, state.spans = state.spans, []
        for draft in (state.draft, state.saying.draft if state.saying else None):
            if draft is not None:
                spans = spans + draft.take_spans()
        events += stage_events(spans)
