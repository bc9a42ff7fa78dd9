"""What a cascade is set to and what it remembers of one conversation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runtime.engines.context import Conversation
from runtime.engines.draft import Draft
from runtime.engines.ear import Ear
from runtime.engines.loudness import Loudness
from runtime.engines.playback import Saying
from runtime.engines.roles import VoiceActivity
from runtime.engines.turns import TurnPolicy, TurnState
from runtime.trace import Span


@dataclass(frozen=True, slots=True)
class CascadeConfig:
    """How a cascade behaves.

    policy: when turns end. budget_tokens: what the language model is shown at most.
    stop_words: said alone, they end a reply and are not answered. ahead: prepare replies in pauses
    and listen ahead (costs processor time that is thrown away when the user goes on).
    duck_db: level of a reply at the first sound of what may be an interruption. faint_db: a voice
    so far below the user's is somebody else's; 0 listens to any. own_words: a turn that repeats
    what was just said is taken for its echo.
    """

    policy: TurnPolicy = field(default_factory=TurnPolicy)
    budget_tokens: int = 512
    stop_words: tuple[str, ...] = ("stop", "quiet", "enough")
    ahead: bool = True
    duck_db: float = -12.0
    faint_db: float = 14.0
    own_words: bool = True


@dataclass(frozen=True, slots=True)
class CutReply:
    """A reply that was interrupted; it goes on if that proves to be nothing.

    conversation, before: what was remembered until then.
    """

    saying: Saying
    conversation: Conversation
    before: str


@dataclass(slots=True)
class CascadeState:
    """One conversation. Spent by each step; the models' own states are handles inside it.

    begun_at, voiced_until, spoken_until, faint_at: positions in what the ear heard; spoken: the
    assistant's last words that were played, up to spoken_until; faint_at: where somebody else spoke
    last, n_faint chunks in a row.
    """

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
    cut: CutReply | None = None
    spoken: str = ""
    spoken_until: int = 0
    faint_at: int = -(1 << 40)
    n_faint: int = 0
    loudness: Loudness = field(default_factory=Loudness)
    ended_at_ns: int = 0
    user_end_ns: int = 0
    discarded_ns: int = 0
    spans: list[Span] = field(default_factory=list)
