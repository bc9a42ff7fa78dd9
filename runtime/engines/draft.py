"""A reply in the making: recognised, written and spoken by workers, perhaps before it is wanted.

A draft is begun in a pause that may be the end of the user's turn. If the user goes on it is
dropped and its cost is counted; if the turn ends it is confirmed and what is ready is played at
once. Until then only the first clause is made. The stages hand over to each other directly; the
frame loop never waits and never sits between two of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge.frame import Pcm
from runtime.cores import CoreBudget, Urgency
from runtime.engines import clauses as cut
from runtime.engines.context import Conversation, messages
from runtime.engines.roles import Roles
from runtime.engines.turns import OPEN_P
from runtime.engines.workers import Stopwatch, Worker
from runtime.models.llm import Sampling
from runtime.trace import Span

Float32 = NDArray[np.float32]

# Between the user's last word and the reply nothing but the language model computes, most of the
# time. More than this many cores gain little: what is left waits for memory.
_LANGUAGE_CORES = 4


@dataclass(frozen=True, slots=True)
class Clause:
    """A spoken clause. text: as written. pcm: float32 (n,), 24 kHz."""

    text: str
    pcm: Pcm


@dataclass(slots=True)
class Draft:
    """What is known of one reply; filled in by workers, read by the loop.

    pcm_16k: the user's turn, float32 (n,). before: words of this turn recognised earlier.
    words_only: recognise, do not answer. finished_p: the turn's end by its sound; whole_p: by its
    words. ready: milestones by name, in the clock's nanoseconds. spans: work done, for the trace;
    spent_ns: its sum. clauses only ever grows, so the loop may read it at any time; what is not
    such a plain hand-over is changed under the lock.
    """

    pcm_16k: Float32
    conversation: Conversation
    before: str = ""
    words_only: bool = False
    seed: int = 0
    text: str | None = None
    finished_p: float | None = None
    whole_p: float | None = None
    clauses: list[Clause] = field(default_factory=list)
    complete: bool = False
    confirmed: bool = False
    dropped: bool = False
    ready: dict[str, int] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    writing: Iterator[str] | None = None
    cut_state: cut.ClauseState = field(default_factory=cut.ClauseState)
    n_written: int = 0
    n_spoken: int = 0
    spent_ns: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, span: Span) -> None:
        """Count a worker's stage."""
        with self.lock:
            self.spans.append(span)
            self.spent_ns += span.ended_ns - span.began_ns

    def take_spans(self) -> list[Span]:
        """The stages counted since the last call."""
        with self.lock:
            spans, self.spans = self.spans, []
        return spans


@dataclass(frozen=True, slots=True)
class Crew:
    """The workers of an engine, one a stage, so that no stage waits behind another's queue."""

    ear: Worker
    judge: Worker
    mind: Worker
    mouth: Worker

    def idle(self) -> bool:
        """Nobody works and nothing waits."""
        return all(w.idle() for w in (self.ear, self.judge, self.mind, self.mouth))

    def close(self) -> None:
        """End all workers."""
        for worker in (self.ear, self.judge, self.mind, self.mouth):
            worker.close()


@dataclass(frozen=True, slots=True)
class DraftMaker:
    """Makes drafts with the given models, workers and cores. now_ns: the loop's clock."""

    roles: Roles
    crew: Crew
    cores: CoreBudget
    now_ns: Callable[[], int]
    sampling: Sampling = field(default_factory=Sampling)
    rules: cut.ClauseRules = field(default_factory=cut.ClauseRules)

    def begin(self, draft: Draft, chat_state: object) -> None:
        """Set the stages going; returns at once."""
        if not draft.words_only:
            self.judge(draft, draft.pcm_16k)
        if not self.crew.ear.submit(lambda: self._recognise(draft, chat_state)):
            self.drop(draft)

    def judge(self, draft: Draft, pcm_16k: Float32) -> None:
        """Ask the end-of-turn model about a pause; the answer appears in draft.finished_p."""
        model = self.roles.end_of_turn
        if model is None or not self.crew.judge.idle():
            return

        def work() -> None:
            if draft.dropped:
                return
            with self.cores.core(Urgency.TURN):
                watch = Stopwatch()
                draft.finished_p = model.probability(pcm_16k)
                self._note(draft, "turn", watch)

        self.crew.judge.submit(work)

    def confirm(self, draft: Draft, chat_state: object) -> None:
        """The turn has ended: go on beyond the first clause."""
        with draft.lock:
            draft.confirmed = True
            waiting = draft.writing is not None
        if waiting:
            self.crew.mind.submit(lambda: self._write(draft, chat_state))

    def drop(self, draft: Draft) -> None:
        """Nobody wants this reply any more; whoever works on it stops soon."""
        draft.dropped = True
        draft.complete = True

    def listen_ahead(
        self,
        pcm_16k: Float32,
        conversation: Conversation,
        before: str,
        chat_state: object,
        wanted: Callable[[], bool],
        hear: Callable[[str, Span], None],
    ) -> None:
        """While the user speaks: recognise what there is and let the language model read it."""

        def recognise() -> None:
            if not wanted():
                return
            with self.cores.core(Urgency.AHEAD):
                watch = Stopwatch()
                words = self.roles.recogniser.transcribe(pcm_16k).text
                watch.stop()
            hear(words, Span("asr_ahead", watch.began_ns, watch.ended_ns))
            if words and self.crew.mind.idle():
                self.crew.mind.submit(lambda: read(words))

        def read(words: str) -> None:
            if not wanted():
                return
            with self.cores.core(Urgency.AHEAD):
                watch = Stopwatch()
                said = messages(conversation, _joined(before, words))
                self.roles.chat.prefill(chat_state, said, open_turn=True)
                watch.stop()
            hear("", Span("llm_ahead", watch.began_ns, watch.ended_ns))

        self.crew.ear.submit(recognise)

    def _recognise(self, draft: Draft, chat_state: object) -> None:
        if draft.dropped:
            return
        with self.cores.core(Urgency.RECOGNISER):
            watch = Stopwatch()
            words = self.roles.recogniser.transcribe(draft.pcm_16k).text
            self._note(draft, "asr", watch)
        draft.ready["asr"] = self.now_ns()
        draft.text = _joined(draft.before, words)
        if not words or draft.words_only:
            draft.complete = True
        elif not self.crew.mind.submit(lambda: self._write(draft, chat_state)):
            self.drop(draft)

    def _write(self, draft: Draft, chat_state: object) -> None:
        """Write until the first clause, or to the end once the draft is confirmed."""

        def wanted() -> bool:
            return not draft.dropped

        if not wanted():  # its conversation may be over, and its cache gone
            return
        with draft.lock:
            writing, draft.writing = draft.writing, None
        if writing is None:
            said = messages(draft.conversation, draft.text or "")
            with self._language_cores(chat_state):
                watch = Stopwatch()
                draft.whole_p = self.roles.chat.completeness(chat_state, said)
                self._note(draft, "llm_whole", watch)
            writing = self.roles.chat.reply(chat_state, said, self.sampling, wanted=wanted)
            with draft.lock:
                if draft.whole_p < OPEN_P and not draft.confirmed:
                    draft.writing = writing  # not worth a reply until it proves to be the end
                    return
        first = draft.n_written == 0
        while wanted():
            with self._language_cores(chat_state):
                watch = Stopwatch()
                piece = next(writing, None)
                self._note(draft, "llm_first" if first else "llm", watch)
            first = False
            if piece is None:
                self._hand_over(draft, cut.finish(draft.cut_state))
                self._finish(draft)
                return
            draft.cut_state, done = cut.push(self.rules, draft.cut_state, piece)
            self._hand_over(draft, done)
            with draft.lock:
                if draft.n_written and not draft.confirmed:
                    draft.writing = writing
                    return
        self._finish(draft)

    @contextmanager
    def _language_cores(self, chat_state: object) -> Iterator[None]:
        with self.cores.core(Urgency.LANGUAGE, most=_LANGUAGE_CORES) as n_cores:
            self.roles.chat.use_cores(chat_state, n_cores)
            try:
                yield
            finally:
                self.roles.chat.use_cores(chat_state, 1)

    def _hand_over(self, draft: Draft, clauses: tuple[str, ...]) -> None:
        for text in clauses:
            draft.ready.setdefault("llm_first", self.now_ns())
            draft.n_written += 1
            if not self.crew.mouth.submit(lambda text=text: self._speak(draft, text)):  # type: ignore[misc]
                self.drop(draft)

    def _speak(self, draft: Draft, text: str) -> None:
        if draft.dropped:
            return
        with self.cores.core(Urgency.VOICE):
            watch = Stopwatch()
            words = self.roles.speakable(text)
            seed = draft.seed + draft.n_spoken
            pcm = (
                self.roles.speaker.speak(words, seed=seed).pcm if words else np.zeros(0, np.float32)
            )
            self._note(draft, "tts", watch)
        draft.n_spoken += 1
        if pcm.size:
            draft.clauses.append(Clause(text, pcm))
            draft.ready.setdefault("tts_first", self.now_ns())

    def _finish(self, draft: Draft) -> None:
        """Mark the draft complete after the last clause has been spoken."""

        def close() -> None:
            draft.complete = True

        if not self.crew.mouth.submit(close):
            draft.complete = True

    def _note(self, draft: Draft, stage: str, watch: Stopwatch) -> None:
        watch.stop()
        draft.note(Span(stage, watch.began_ns, watch.ended_ns))


def _joined(before: str, words: str) -> str:
    return f"{before} {words}".strip()
