"""Kept conversations: one JSON line a turn, on this machine only, and only if the user wants it."""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from edge.atomic import write_error
from edge.config import Config
from edge.errors import EdgeError
from edge.paths import data_dir, make_dir

log = logging.getLogger(__name__)

FILE_NAME = "turns.jsonl"
_RECENT_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Turn:
    """What was said, and when.

    time: when it was kept, ISO 8601 in UTC, to the second. engine: what answered.
    """

    time: str
    user: str
    reply: str
    engine: str


class History:
    """The file of kept turns.

    path: need not exist; its folder is made, for its owner only, by the first turn kept.
    enabled: without it nothing is ever written; reading and purging what is there still work.
    """

    def __init__(self, path: Path, *, enabled: bool) -> None:
        self.path, self.enabled = path, enabled

    @classmethod
    def open(cls, config: Config, *, env: Mapping[str, str] | None = None) -> Self:
        """The history in its usual place, the folder of data. env: None is this process's."""
        return cls(data_dir(env) / "history" / FILE_NAME, enabled=config.history.enabled)

    def append(self, *, user: str, reply: str, engine: str, at: datetime | None = None) -> bool:
        """Keep a turn; returns whether it was kept. at: with a time zone; None is now.

        The line is handed over in one piece, so two processes do not mix theirs. Raises EdgeError.
        """
        if not self.enabled:
            return False
        now = datetime.now(UTC) if at is None else at.astimezone(UTC)
        turn = Turn(now.isoformat(timespec="seconds"), user, reply, engine)
        line = json.dumps(asdict(turn), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        make_dir(self.path.parent, private=True)
        try:
            _append_line(self.path, line)
        except OSError as error:
            raise write_error(self.path, error) from error
        return True

    def turns(self) -> Iterator[Turn]:
        """The kept turns, oldest first; a damaged line is passed over. Raises EdgeError."""
        n_damaged = 0
        for line in self._lines():
            turn = _parse(line)
            if turn is None:
                n_damaged += 1
            else:
                yield turn
        if n_damaged:
            log.warning("%s: %d damaged lines were passed over", self.path, n_damaged)

    def recent(self, words: str = "", *, last: int) -> list[Turn]:
        """The last turns in which all these words occur, oldest first; looks back 4 MiB at most.

        Raises EdgeError.
        """
        found = (_parse(line) for line in self._lines(_RECENT_BYTES))
        return list(deque(matching((turn for turn in found if turn), words), maxlen=last))

    def purge(self) -> int:
        """Remove everything that was kept; returns how many turns that were. Raises EdgeError."""
        n_turns = sum(1 for _ in self._lines())
        try:
            self.path.unlink(missing_ok=True)
            # What an export into this folder left when it was killed holds the same words.
            for part in self.path.parent.glob(".*.part"):
                part.unlink(missing_ok=True)
        except OSError as error:
            raise EdgeError(
                f"{self.path} cannot be removed: {error.strerror or error}; remove it by hand"
            ) from error
        return n_turns

    def _lines(self, most_bytes: int | None = None) -> Iterator[bytes]:
        """The lines that are not empty; of the last most_bytes only, the first may be cut."""
        try:
            with self.path.open("rb") as file:
                if most_bytes is not None:
                    file.seek(max(0, file.seek(0, os.SEEK_END) - most_bytes))
                yield from (line for line in file if line.strip())
        except FileNotFoundError:
            return
        except OSError as error:
            raise EdgeError(f"{self.path} cannot be read: {error.strerror or error}") from error


def purge_prompts(folder: Path) -> int:
    """Remove what models keep of prompts that they have read; how many. Raises EdgeError.

    folder: edge.paths.prompt_cache_dir().
    """
    found = [*folder.glob("*.state"), *folder.glob(".*.part")]
    try:
        for path in found:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise EdgeError(
            f"{folder} cannot be emptied: {error.strerror or error}; remove it by hand"
        ) from error
    return len(found)


def matching(turns: Iterable[Turn], words: str) -> Iterator[Turn]:
    """Turns in which every word occurs, on either side or in the time."""
    wanted = words.lower().split()
    for turn in turns:
        text = f"{turn.user} {turn.reply} {turn.time}".lower()
        if all(word in text for word in wanted):
            yield turn


def to_json(turns: Iterator[Turn]) -> str:
    """{"turns": [{"time", "user", "reply", "engine"}, ...]}."""
    return json.dumps({"turns": [asdict(turn) for turn in turns]}, ensure_ascii=False, indent=1)


def to_markdown(turns: Iterator[Turn]) -> str:
    """A heading a day, a paragraph a line of speech."""
    lines, day = ["# Conversations"], ""
    for turn in turns:
        if turn.time[:10] != day:
            day = turn.time[:10]
            lines.append(f"## {day}")
        lines.append(f"**{turn.time[11:16]} You:** {_escaped(one_line(turn.user))}")
        lines.append(f"**{_escaped(turn.engine)}:** {_escaped(one_line(turn.reply))}")
    return "\n\n".join(lines)


def to_text(turns: Iterator[Turn]) -> str:
    """Two lines a turn: when and what the user said, and the reply."""
    return "\n".join(
        f"{turn.time}  you   {one_line(turn.user)}\n{' ' * len(turn.time)}  edge  "
        f"{one_line(turn.reply)}"
        for turn in turns
    )


def one_line(text: str) -> str:
    """Text that is safe to show: a model's control characters never reach the terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _append_line(path: Path, line: bytes) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size_bytes = os.lseek(fd, 0, os.SEEK_END)
        if size_bytes:
            os.lseek(fd, size_bytes - 1, os.SEEK_SET)
            if os.read(fd, 1) != b"\n":
                line = b"\n" + line  # the last writer was cut off; do not continue its line
        n_written = os.write(fd, line)
        while n_written < len(line):  # a full disk takes a part, then refuses with its reason
            n_written += os.write(fd, line[n_written:])
    finally:
        os.close(fd)


def _parse(line: bytes) -> Turn | None:
    try:
        facts = json.loads(line)
    except ValueError:
        return None
    names = ("time", "user", "reply", "engine")
    if not isinstance(facts, dict) or not all(isinstance(facts.get(n), str) for n in names):
        return None
    return Turn(*(facts[name] for name in names))


def _escaped(text: str) -> str:
    return "".join("\\" + c if c in "\\`*_[]<>#|" else c for c in text)
