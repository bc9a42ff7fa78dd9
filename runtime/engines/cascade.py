"""The cascade: voice activity -> turns -> recogniser -> language model -> voice, as one engine.

A step hears 80 ms, folds it into the turn machine, acts on what that decides, and plays 80 ms of
whatever is ready. Everything slow happens in drafts (draft.py) on workers; a step never waits.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edge.errors import ConfigError
from edge.frame import FRAME_NS, FRAME_SAMPLES, SAMPLE_RATE_HZ, Event, Frame, Pcm, Reply, silence
from runtime.cores import Urgency
from runtime.engines import turns
from runtime.engines.context import Conversation, Turn, fit, messages
from runtime.engines.draft import Draft, DraftMaker
from runtime.engines.ear import Ear
from runtime.engines.engine import Context
from runtime.engines.playback import Saying, hold, play, release
from runtime.engines.roles import CHUNK_SAMPLES, EAR_RATE_HZ, Float32, VoiceActivity
from runtime.engines.turns import Decision, Heard, Phase, TurnPolicy, TurnState
from runtime.trace import Span

_PRE_ROLL_SAMPLES = EAR_RATE_HZ * 3 // 10
_AHEAD_SAMPLES = EAR_RATE_HZ  # at most one recogniser call ahead a second
_JUDGE_AGAIN_CHUNKS = 8
_JUDGED_PAUSE_SAMPLES = EAR_RATE_HZ // 10
_BANK_SAMPLES = 20 * EAR_RATE_HZ  # longer turns are recognised piece by piece at their pauses
_JOIN_SAMPLES = SAMPLE_RATE_HZ  # a reply cut within its first second answered half a question


@dataclass(frozen=True, slots=True)
class CascadeConfig:
    """How a cascade behaves.

    policy: when turns end. budget_tokens: what the language model is shown at most.
    stop_words: said alone, they end a reply and are not answered. ahead: prepare replies in pauses
    and listen ahead (costs processor time that is thrown away when the user goes on).
    """

    policy: TurnPolicy = field(default_factory=TurnPolicy)
    budget_tokens: int = 512
    stop_words: tuple[str, ...] = ("stop", "quiet", "enough")
    ahead: bool = True


@dataclass(slots=True)
class CascadeState:
    """One conversation. Spent by each step; the models' own states are handles inside it."""

    conversation: Conversation
    chat: Any
    activity: VoiceActivity
    seed: int
    ear: Ear = field(default_factory=Ear)
    turn: TurnState = field(default_factory=TurnState)
    begun_at: int = 0
    voiced_until: int = 0
    before: str = ""
    ahead_text: str = ""
    ahead_at: int = 0
    listening_ahead: bool = False
    judged_at: int = 0
    draft: Draft | None = None
    saying: Saying | None = None
    ended_at_ns: int = 0
    user_end_ns: int = 0
    discarded_ns: int = 0
    spans: list[Span] = field(default_factory=list)


class CascadeEngine:
    """Engine over any models that fill the roles; owns them and their workers."""

    def __init__(
        self,
        maker: DraftMaker,
        config: CascadeConfig | None = None,
        talk_key: Callable[[], bool] = lambda: False,
    ) -> None:
        """talk_key: whether the key is held down now; asked in each chunk under push-to-talk."""
        self._maker = maker
        self._config = config or CascadeConfig()
        self._talk_key = talk_key

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
            if probability >= self._config.policy.keep_p:
                state.voiced_until = state.ear.n_heard
            heard = self._heard(state, probability)
            state.turn, decisions = turns.step(self._config.policy, state.turn, heard)
            for decision in decisions:
                self._act(state, decision, frame, events)
            self._while_open(state)
        pcm, text = self._say(state, frame, events)
        self._report_work(state, events)
        return state, Reply(frame.index, pcm, text, tuple(events))

    def _heard(self, state: CascadeState, probability: float) -> Heard:
        draft, saying = state.draft, state.saying
        return Heard(
            probability,
            playing=saying is not None and saying.audible,
            finished_p=draft.finished_p if draft else None,
            whole_p=draft.whole_p if draft else None,
            text=draft.text if draft else None,
            talk_key=self._talk_key(),
        )

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
        elif decision is Decision.YIELDED:
            self._yield(state, events)
        elif decision is Decision.BACKCHANNEL:
            self._after_backchannel(state, events)
        events.append(Event(f"user_{decision.value}", why))

    def _user_starts(self, state: CascadeState) -> None:
        run = state.turn.n_run * CHUNK_SAMPLES
        begun_at = max(0, state.ear.n_heard - run - _PRE_ROLL_SAMPLES)
        saying = state.saying
        if saying is not None and saying.n_played == 0:
            # The user goes on before a sound of the reply was heard: it was not the end after all.
            self._discard(state, saying.draft)
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
        self._discard(state, draft)

    def _discard(self, state: CascadeState, draft: Draft) -> None:
        self._maker.drop(draft)
        state.discarded_ns += draft.spent_ns
        state.spans += draft.take_spans()

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

    def _yield(self, state: CascadeState, events: list[Event]) -> None:
        """The user has taken the turn: forget the rest, remember what was heard."""
        saying, state.saying = state.saying, None
        if saying is None:
            return
        heard = saying.heard()
        if saying.n_played >= _JOIN_SAMPLES:
            self._remember(state, saying.draft.text or "", heard)
        else:
            state.before = saying.draft.text or ""
        self._discard(state, saying.draft)
        events.append(Event("yielded", {"reply": heard}))
        events.append(Event("reply_ended", {"reply": heard, "interrupted": True}))

    def _after_backchannel(self, state: CascadeState, events: list[Event]) -> None:
        draft = state.draft
        said = _plain_words(draft.text or "") if draft else ""
        self._forget_draft(state)
        if said in self._config.stop_words:
            self._yield(state, events)
        elif state.saying is not None:
            release(state.saying)

    def _say(self, state: CascadeState, frame: Frame, events: list[Event]) -> tuple[Pcm, str]:
        """80 ms of the reply, with the events of its beginning and its end."""
        saying = state.saying
        if saying is None:
            return silence(), ""
        draft = saying.draft
        stop = draft.text is not None and _plain_words(draft.text) in self._config.stop_words
        if stop:
            self._maker.drop(draft)
            state.saying = None
            events.append(Event("stopped", {"user": draft.text or ""}))
            return silence(), ""
        quiet = saying.n_played == 0
        pcm, text, first = play(saying)
        if quiet and first is not None:
            events.append(self._started(state, draft, frame, first))
        if saying.finished:
            state.saying = None
            self._ended(state, saying, events)
        return pcm, text

    def _started(self, state: CascadeState, draft: Draft, frame: Frame, first: int) -> Event:
        """The first audible sample, with what each stage added to the wait for it."""
        heard_ns = frame.captured_ns + first * 1_000_000_000 // SAMPLE_RATE_HZ
        ready = draft.ready
        marks = [("end_of_turn", state.ended_at_ns)]
        marks += [(name, ready.get(name, 0)) for name in ("asr", "llm_first", "tts_first")]
        latency, reached = {}, state.user_end_ns
        for name, at_ns in [*marks, ("output", heard_ns)]:
            latency[name] = round(max(0, at_ns - reached) / 1e6, 1)
            reached = max(reached, at_ns)
        latency["total"] = round((heard_ns - state.user_end_ns) / 1e6, 1)
        facts = {
            "user": draft.text or "",
            "user_end_s": self._stream_s(frame, state.user_end_ns),
            "reply_start_s": self._stream_s(frame, heard_ns),
            "latency_ms": latency,
        }
        return Event("reply_started", facts)

    def _ended(self, state: CascadeState, saying: Saying, events: list[Event]) -> None:
        user, heard = saying.draft.text or "", saying.heard()
        state.spans += saying.draft.take_spans()
        if heard:
            self._remember(state, user, heard)
            events.append(Event("reply_ended", {"reply": heard, "interrupted": False}))
        else:
            events.append(Event("nothing_said", {"user": user}))

    def _remember(self, state: CascadeState, user: str, heard: str) -> None:
        said = Turn(user, heard).said()
        turn = Turn(user, heard, self._maker.roles.chat.count_tokens(said))
        state.conversation = fit(state.conversation.with_turn(turn), self._config.budget_tokens)
        self._read_prefix(state)

    def _read_prefix(self, state: CascadeState) -> None:
        """Let the language model read what the next turn will begin with."""
        said = messages(state.conversation, "")

        def read() -> None:
            with self._maker.cores.core(Urgency.AHEAD):
                self._maker.roles.chat.prefill(state.chat, said, open_turn=True)

        self._maker.crew.mind.submit(read)

    def _report_work(self, state: CascadeState, events: list[Event]) -> None:
        """Pass finished stages on to the trace."""
        spans, state.spans = state.spans, []
        for draft in (state.draft, state.saying.draft if state.saying else None):
            if draft is not None:
                spans = spans + draft.take_spans()
        for span in spans:
            facts = {"name": span.stage, "began_ns": span.began_ns, "ended_ns": span.ended_ns}
            events.append(Event("stage", facts))

    @staticmethod
    def _stream_s(frame: Frame, at_ns: int) -> float:
        """Seconds since the conversation's sound began; frame n ends at (n + 1) * 80 ms."""
        end_s = (frame.index + 1) * FRAME_SAMPLES / SAMPLE_RATE_HZ
        return round(end_s - (frame.captured_ns - at_ns) / 1e9, 3)


def _plain_words(text: str) -> str:
    """Lower-case words without punctuation, for comparing with stop words."""
    return " ".join(re.findall(r"[a-z']+", text.lower()))
