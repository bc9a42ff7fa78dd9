from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.daemon.protocol import (
    COMMANDS,
    MAX_LINE_BYTES,
    ProtocolError,
    Request,
    error_line,
    parse_request,
    reply_line,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_a_protocol_error(line: bytes) -> None:
    try:
        said = parse_request(line).do
    except ProtocolError as error:
        said = str(error)
    assert said in COMMANDS or "\n" not in said


@given(st.dictionaries(st.sampled_from(["do", "id", "on", "down", "name", "key"]), JSON))
def test_any_object_is_a_request_or_a_protocol_error(found: dict[str, object]) -> None:
    try:
        request = parse_request(json.dumps(found).encode())
    except ProtocolError:
        return
    assert set(request.facts) <= set(COMMANDS[request.do])


@given(st.sampled_from(sorted(COMMANDS)), st.sampled_from(["do", "on", "down", "name"]), JSON)
def test_known_commands_take_only_their_own_arguments(do: str, name: str, value: object) -> None:
    line = json.dumps({"do": do, name: value} | {"do": do}).encode()
    try:
        request = parse_request(line)
    except ProtocolError:
        return
    assert request.do == do
    assert all(COMMANDS[do][key][0](value) for key, value in request.facts.items())


def test_deep_nesting_and_long_lines_are_refused() -> None:
    with pytest.raises(ProtocolError, match="JSON"):
        parse_request(b"[" * MAX_LINE_BYTES)
    with pytest.raises(ProtocolError, match=str(MAX_LINE_BYTES)):
        parse_request(b" " * (MAX_LINE_BYTES + 1))


def test_answers_carry_the_id_of_their_request() -> None:
    assert parse_request(b'{"do": "status", "id": 7}') == Request("status", {}, 7)
    assert json.loads(reply_line({"state": "idle"}, 7)) == {"ok": True, "id": 7, "state": "idle"}
    assert json.loads(error_line("no", "x")) == {"ok": False, "id": "x", "error": "no"}
