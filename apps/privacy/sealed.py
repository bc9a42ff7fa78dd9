"""What sealing achieved, on whatever system."""

from __future__ import annotations

from dataclasses import dataclass, field

from apps.privacy.bpf import Level


@dataclass(frozen=True, slots=True)
class Sealed:
    """What was achieved.

    mechanisms: what enforces it. reachable: Unix sockets of name and start services that could not
    be hidden. recorded: whether refusals are written down. notes: what else one should know.
    """

    level: Level
    mechanisms: tuple[str, ...] = ()
    reachable: tuple[str, ...] = ()
    recorded: bool = False
    notes: tuple[str, ...] = field(default=())
