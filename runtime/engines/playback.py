"""What is being said: clauses played sample by sample, held for a breath, and cut where yielded."""

from __future__ import annotations

from dataclasses import dataclass

from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm, silence
from runtime.engines.context import heard_part
from runtime.engines.draft import Draft
from runtime.sound.levels import duck, from_db

_PER_MS = SAMPLE_RATE_HZ // 1000
_FADE_SAMPLES = 10 * _PER_MS
_SENTENCE_GAP_SAMPLES = 160 * _PER_MS
_CLAUSE_GAP_SAMPLES = 40 * _PER_MS


@dataclass(slots=True)
class Saying:
    """One reply on its way to the speaker.

    draft: where clauses come from. n_clause, n_sample: what comes next. gap: silent samples still
    owed between two clauses. n_played: samples of speech played. held: silent for a breath, to go
    on or to be cut; fading: the hold has just begun. gain, gain_to: of the last sample played, and
    what the next frame moves to.
    """

    draft: Draft
    n_clause: int = 0
    n_sample: int = 0
    gap: int = 0
    n_played: int = 0
    held: bool = False
    fading: bool = False
    gain: float = 1.0
    gain_to: float = 1.0

    @property
    def audible(self) -> bool:
        """Some of it has been played and some may still come."""
        return self.n_played > 0 and not self.finished

    @property
    def finished(self) -> bool:
        """Everything has been played and nothing more is being made."""
        return self.draft.complete and self.n_clause >= len(self.draft.clauses)

    def heard(self) -> str:
        """The words that were really played so far."""
        clauses = self.draft.clauses
        parts = [(c.text, len(c.pcm), len(c.pcm)) for c in clauses[: self.n_clause]]
        if self.n_clause < len(clauses) and self.n_sample:
            now = clauses[self.n_clause]
            parts.append((now.text, self.n_sample, len(now.pcm)))
        return heard_part(parts)


def play(saying: Saying) -> tuple[Pcm, str, int | None]:
    """The next 80 ms of a reply.

    Returns float32 (1920,), the text of clauses that begin in it, and the offset of the first
    sample of speech in it (None if it holds none). Silence while the next clause is being made.
    """
    if saying.held:
        return _breath(saying), "", None
    out, at = silence(), 0
    began: list[str] = []
    first: int | None = None
    while at < FRAME_SAMPLES and saying.n_clause < len(saying.draft.clauses):
        if saying.gap:
            n = min(saying.gap, FRAME_SAMPLES - at)
            saying.gap -= n
            at += n
            continue
        clause = saying.draft.clauses[saying.n_clause]
        if saying.n_sample == 0:
            began.append(clause.text)
        n = min(len(clause.pcm) - saying.n_sample, FRAME_SAMPLES - at)
        out[at : at + n] = clause.pcm[saying.n_sample : saying.n_sample + n]
        first = at if first is None else first
        saying.n_sample += n
        saying.n_played += n
        at += n
        if saying.n_sample == len(clause.pcm):
            saying.n_clause, saying.n_sample = saying.n_clause + 1, 0
            ends_sentence = clause.text.rstrip("\"')]”’").endswith((".", "!", "?"))
            saying.gap = _SENTENCE_GAP_SAMPLES if ends_sentence else _CLAUSE_GAP_SAMPLES
    return _at_gain(saying, out), " ".join(began), first


def hold(saying: Saying) -> None:
    """Stop for a breath; the next frame fades what was being said to silence within 10 ms."""
    saying.held = saying.fading = True


def release(saying: Saying) -> None:
    """Go on where it was held."""
    saying.held = saying.fading = False
    saying.gain = saying.gain_to = 1.0


def lower(saying: Saying, gain_db: float) -> None:
    """Speak at gain_db from the next frame on; 0 is as before."""
    saying.gain_to = from_db(gain_db)


def _at_gain(saying: Saying, pcm: Pcm) -> Pcm:
    out = duck(pcm, saying.gain, saying.gain_to)
    saying.gain = saying.gain_to
    return out


def _breath(saying: Saying) -> Pcm:
    """A frame while it is held: a short fade at first, then silence."""
    out = silence()
    clauses = saying.draft.clauses
    if saying.fading and saying.n_clause < len(clauses) and not saying.gap:
        left = clauses[saying.n_clause].pcm[saying.n_sample :][:_FADE_SAMPLES]
        out[: len(left)] = duck(left, saying.gain, 0.0)
    saying.fading = False
    return out
