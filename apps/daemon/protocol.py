"""The control protocol: one JSON object a line, over a Unix socket. PROTOCOL.md describes it.

Everything here is pure, and made to be given garbage: whatever comes in, what comes out is a
Request or a ProtocolError with one line for the client.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from edge.errors import EdgeError

log = logging.getLogger(__name__)

VERSION = 1
MAX_CLIENTS = 16
MAX_LINE_BYTES = 4096
_MAX_TEXT = 1024
_MAX_ID = 64
MAX_TURNS = 100

# Settings that a client may change until the daemon ends; `edge config set` changes them for good.
SETTABLE = (
    *("audio.input", "audio.output", "talk.voice", "talk.prompt", "talk.engine", "talk.model"),
    *("turns.policy", "history.enabled", "wake.enabled"),
)


class ProtocolError(EdgeError):
    """A request that cannot be carried out; the message goes to the client, the line is over."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client wants. do: a command's name. facts: its arguments. ident: echoed, or None."""

    do: str
    facts: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    ident: str | int | None = None


Handler = Callable[[Request], Mapping[str, Any]]


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_TEXT and value.isprintable()


def _is_count(value: object) -> bool:
    return type(value) is int and 1 <= value <= MAX_TURNS


def _is_setting(value: object) -> bool:
    return _is_text(value) or _is_bool(value)


# Command -> its arguments: name -> (check, needed).
_Check = Callable[[object], bool]
COMMANDS: Mapping[str, Mapping[str, tuple[_Check, bool]]] = MappingProxyType(
    {
        "status": {},
        "mute": {"on": (_is_bool, False)},
        "toggle": {},
        "talk": {"down": (_is_bool, False)},
        "stop": {},
        "profile": {"name": (_is_text, True)},
        "set": {"key": (_is_text, True), "value": (_is_setting, True)},
        "reload": {},
        "watch": {"levels": (_is_bool, False)},
        "fetch": {"model": (_is_text, True)},
        "history": {"words": (_is_text, False), "last": (_is_count, False)},
        "purge": {},
        "quit": {},
    }
)


def parse_request(line: bytes) -> Request:
    """Read one line without its end. Raises ProtocolError, whatever the bytes are."""
    if len(line) > MAX_LINE_BYTES:
        raise ProtocolError(f"a line may have {MAX_LINE_BYTES} bytes")
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise ProtocolError('not JSON; a request looks like {"do": "status"}') from None
    if not isinstance(found, dict) or not isinstance(found.get("do"), str):
        raise ProtocolError('a request is an object with "do", like {"do": "status"}')
    do, ident = found.pop("do"), found.pop("id", None)
    if not (ident is None or isinstance(ident, int) or (_is_text(ident) and len(ident) <= _MAX_ID)):
        raise ProtocolError(f'"id" is a whole number or a text of at most {_MAX_ID} characters')
    wanted = COMMANDS.get(do)
    if wanted is None:
        raise ProtocolError(f"there is no such command; there are {', '.join(COMMANDS)}")
    for name, value in found.items():
        if name not in wanted or not wanted[name][0](value):
            raise ProtocolError(f"{do}: takes {', '.join(wanted) or 'no arguments'}; see PROTOCOL")
    for name, (_, needed) in wanted.items():
        if needed and name not in found:
            raise ProtocolError(f'{do}: "{name}" is missing')
    return Request(do, MappingProxyType(found), ident)


def reply_line(facts: Mapping[str, Any], ident: str | int | None = None) -> bytes:
    """One line that says that it was done, and what came of it."""
    named = {} if ident is None else {"id": ident}
    return json.dumps({"ok": True, **named, **facts}).encode() + b"\n"


def error_line(message: str, ident: str | int | None = None) -> bytes:
    """One line that says why not."""
    named = {} if ident is None else {"id": ident}
    return json.dumps({"ok": False, **named, "error": message}).encode() + b"\n"


def carry_out(line: bytes, handle: Handler, watch: Callable[[bool], None]) -> bytes:
    """The line that answers a request. watch: told of a client that watches now, levels or not."""
    ident = None
    try:
        request = parse_request(line)
        ident = request.ident
        if request.do == "watch":
            watch(bool(request.facts.get("levels")))
        return reply_line(handle(request), ident)
    except EdgeError as error:
        return error_line(str(error), ident)
    except Exception as error:
        log.exception("a control request failed")
        return error_line(f"internal error ({type(error).__name__})", ident)


def event_line(kind: str, facts: Mapping[str, Any]) -> bytes:
    """One line that nobody asked for by itself: for clients that watch."""
    return json.dumps({"event": kind, **facts}).encode() + b"\n"
