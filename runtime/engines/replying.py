"""The assistant's side of a cascade: a reply is played, held, cut, taken up again, remembered.

What interrupts a reply is not always a person who wants the floor: it may be the assistant's own
voice come back, or a noise without words. Then the rest of the reply is said after all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from edge.frame import SAMPLE_RATE_HZ, Event, Frame, Pcm, silence
from runtime.cores import Urgency
from runtime.engines.cascade_state import CascadeConfig, CascadeState, CutReply
from runtime.engines.context import Turn, fit, messages
from runtime.engines.draft import Draft, DraftMaker
from runtime.engines.facts import reply_started
from runtime.engines.guards import own_words
from runtime.engines.playback import Saying, play, release
from runtime.engines.roles import EAR_RATE_HZ

_JOIN_SAMPLES = SAMPLE_RATE_HZ  # a reply cut within its first second answered half a question
_ECHO_SAMPLES = 3 * EAR_RATE_HZ // 2  # what begins later than this after a reply is no echo of it


@dataclass(frozen=True, slots=True)
class Replying:
    """Says replies and forgets them, for any conversation; owns nothing."""

    maker: DraftMaker
    config: CascadeConfig

    def discard(self, state: CascadeState, draft: Draft) -> None:
        """Nobody wants this draft any more; what it cost is counted."""
        self.maker.drop(draft)
        state.discarded_ns += draft.spent_ns
        state.spans += draft.take_spans()

    def give_way(self, state: CascadeState, events: list[Event], why: str) -> None:
        """The user has taken the turn: forget the rest, remember what was heard."""
        saying, state.saying = state.saying, None
        if saying is None:
            return
        heard = saying.heard()
        state.cut = CutReply(saying, state.conversation, state.before)
        if saying.n_played >= _JOIN_SAMPLES:
            self._remember(state, saying.draft.text or "", heard)
        else:
            state.before = saying.draft.text or ""
        self.discard(state, saying.draft)
        events.append(Event("yielded", {"reply": heard, "why": why}))
        if saying.n_played:
            events.append(Event("reply_ended", {"reply": heard, "interrupted": True}))
        else:  # it had not begun: what would end here is the reply before it
            events.append(Event("unsaid", {"why": why}))

    def is_stop_word(self, text: str) -> bool:
        """Whether text is a stop word and nothing else."""
        return _plain_words(text) in self.config.stop_words

    def say(self, state: CascadeState, frame: Frame, events: list[Event]) -> tuple[Pcm, str]:
        """80 ms of the reply, with the events of its beginning and its end."""
        saying = state.saying
        if saying is None:
            return silence(), ""
        draft = saying.draft
        if saying.n_played == 0 and self._not_answered(state, saying, events):
            return silence(), ""
        quiet = saying.n_played == 0
        pcm, text, first = play(saying)
        if quiet and first is not None:
            state.cut = None
            events.append(self._started(state, draft, frame, first))
        if saying.n_played and not saying.held:
            state.spoken, state.spoken_until = saying.heard(), state.ear.n_heard
        if saying.finished:
            state.saying = None
            self._ended(state, saying, events)
        return pcm, text

    def _not_answered(self, state: CascadeState, saying: Saying, events: list[Event]) -> bool:
        """Whether a turn needs no reply: a stop word, or the assistant's own voice come back."""
        said = saying.draft.text
        if said is None:
            return False
        if self.is_stop_word(said):
            self.discard(state, saying.draft)
            state.saying = state.cut = None
            events.append(Event("stopped", {"user": said, "why": "a stop word"}))
            return True
        soon = state.begun_at <= state.spoken_until + _ECHO_SAMPLES
        if self.config.own_words and soon and own_words(said, state.spoken):
            self.discard(state, saying.draft)
            state.saying = None
            events.append(Event("own_words", {"user": said, "why": "it heard itself"}))
            self._go_on(state, events)
            return True
        return False

    def _go_on(self, state: CascadeState, events: list[Event]) -> None:
        """What interrupted a reply was nothing: say the rest of it, as far as it was made."""
        cut, state.cut = state.cut, None
        if cut is None or cut.saying.n_clause >= len(cut.saying.draft.clauses):
            return
        state.conversation, state.before = cut.conversation, cut.before
        state.saying = cut.saying
        release(cut.saying)
        events.append(Event("reply_resumed", {"why": "nothing was said over it"}))

    def _started(self, state: CascadeState, draft: Draft, frame: Frame, first: int) -> Event:
        return reply_started(
            frame,
            draft.text or "",
            user_end_ns=state.user_end_ns,
            decided_ns=state.ended_at_ns,
            ready_ns=draft.ready,
            first=first,
        )

    def _ended(self, state: CascadeState, saying: Saying, events: list[Event]) -> None:
        user, heard = saying.draft.text or "", saying.heard()
        state.spans += saying.draft.take_spans()
        if heard:
            self._remember(state, user, heard)
            events.append(Event("reply_ended", {"reply": heard, "interrupted": False}))
        else:
            why = "there was nothing to say to it" if user else "no words were recognised"
            events.append(Event("nothing_said", {"user": user, "why": why}))
            if not user:
                self._go_on(state, events)
        state.cut = None

    def _remember(self, state: CascadeState, user: str, heard: str) -> None:
        said = Turn(user, heard).said()
        turn = Turn(user, heard, self.maker.roles.chat.count_tokens(said))
        state.conversation = fit(state.conversation.with_turn(turn), self.config.budget_tokens)
        self._read_prefix(state)

    def _read_prefix(self, state: CascadeState) -> None:
        """Let the language model read what the next turn will begin with."""
        said = messages(state.conversation, "")

        def read() -> None:
            with self.maker.cores.core(Urgency.AHEAD):
                self.maker.roles.chat.prefill(state.chat, said, open_turn=True)

        self.maker.crew.mind.submit(read)


def _plain_words(text: str) -> str:
    """Lower-case words without punctuation, for comparing with stop words."""
    return " ".join(re.findall(r"[a-z']+", text.lower()))
