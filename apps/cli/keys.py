"""The plain forms of `edge ctl`, for keys and buttons: quick, as next to nothing is imported."""

from __future__ import annotations

import json
import sys
from typing import Any

from apps.daemon.client import Client
from edge.errors import EdgeError

_JSON = "--json"

# The words after `edge ctl` -> the request.
_PLAIN: dict[tuple[str, ...], dict[str, object]] = {
    ("status",): {"do": "status"},
    ("mute",): {"do": "mute", "on": True},
    ("mute", "on"): {"do": "mute", "on": True},
    ("mute", "off"): {"do": "mute", "on": False},
    ("toggle",): {"do": "toggle"},
    ("talk",): {"do": "talk"},
    ("talk", "toggle"): {"do": "talk"},
    ("talk", "down"): {"do": "talk", "down": True},
    ("talk", "up"): {"do": "talk", "down": False},
    ("stop",): {"do": "stop"},
    ("reload",): {"do": "reload"},
    ("quit",): {"do": "quit"},
}


def answered(words: list[str]) -> int | None:
    """Carry out `edge ctl WORDS` and print what came of it; its exit code.

    None: it is no plain form, and nothing was done.
    """
    request = _PLAIN.get(tuple(word for word in words if word != _JSON))
    if request is None or words[:1] == [_JSON]:
        return None
    facts = dict(request)
    try:
        with Client() as client:
            found = client.ask(str(facts.pop("do")), **facts)
    except EdgeError as error:
        print(f"edge: error: {error}", file=sys.stderr)
        return error.exit_code
    if _JSON in words:
        print(json.dumps(found))
    elif request["do"] == "status":
        print("\n".join(status_lines(found)))
    else:
        print(found["state"])
    return 0


def status_lines(found: dict[str, Any]) -> list[str]:
    """What `edge ctl status` shows of a daemon's answer."""
    panel, privacy = found["panel"], found["privacy"]
    frames, answer = panel["frames"], panel["answer_ms"]
    error = f": {found['error']}" if found["error"] else ""
    lines = [
        f"{found['state']}{error}  ({found['engine'] or 'no engine yet'})",
        f"privacy   {privacy['level']} by {', '.join(privacy['mechanisms']) or 'nothing'}",
    ]
    lines += [
        f"          may {each['name']} (process {each['pid']}, used {each['used']})"
        for each in privacy["permissions"]
    ]
    lines.append(
        f"answers   {panel['answers']}, {panel['interrupted']} interrupted; "
        f"p50 {answer['p50']:.0f} ms, p95 {answer['p95']:.0f} ms"
    )
    lines.append(
        f"frames    {frames['count']}, {frames['missed']} missed; step p99 "
        f"{frames['step_ms']['p99']:.1f} ms; {panel['rss_mb']:.0f} MiB"
    )
    return lines
