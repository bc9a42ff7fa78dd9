"""Changing one setting in a config.toml's text, and the text that a new one starts from."""

from __future__ import annotations

import logging
import re
import tomllib

log = logging.getLogger(__name__)

_HEAD = """\
# Settings of edgevoice. Each line shows a default; take its # away to change it.
# `edge config show --origin` tells what is in force and where it comes from.
"""


def set_in_text(text: str, table: str, key: str, value: object) -> str:
    """The text with one value changed or added, and everything else as it was.

    Comments stay, unless the old value spans lines; then the file is written anew from its values.
    Raises tomllib.TOMLDecodeError where the text is not TOML.
    """
    import tomli_w

    value = list(value) if isinstance(value, tuple) else value
    wanted = tomllib.loads(text)
    wanted.setdefault(table, {})[key] = value
    edited = _edit_lines(text, table, key, tomli_w.dumps({key: value}))
    if _reads_as(edited, wanted):
        return edited
    log.warning("comments could not be kept: the old value of %s.%s spans lines", table, key)
    return tomli_w.dumps(wanted)


def template() -> str:
    """A config.toml in which every setting stands as a comment with its default."""
    import tomli_w

    from edge.config import settings

    lines, table = [_HEAD], ""
    for one in settings().values():
        if one.table != table:
            table = one.table
            lines.append(f"\n[{table}]\n")
        default = list(one.default) if isinstance(one.default, tuple) else one.default
        written = tomli_w.dumps({one.key: default})
        lines.extend(f"# {line}\n" for line in written.splitlines())
    return "".join(lines)


def _edit_lines(text: str, table: str, key: str, written: str) -> str:
    """Put `written` ("key = value" and a line end) into the table; the result is yet unproved."""
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    header = re.compile(rf"\s*\[\s*{re.escape(table)}\s*\]\s*(#.*)?$")
    start = next((i for i, line in enumerate(lines) if header.match(line)), None)
    if start is None:
        gap = ["\n"] if lines else []
        return "".join([*lines, *gap, f"[{table}]\n", written])
    old = re.compile(rf"\s*{re.escape(key)}\s*=")
    for i in range(start + 1, len(lines)):
        if lines[i].lstrip().startswith("["):
            break
        if old.match(lines[i]):
            # A comment behind the value is kept where it cannot be a part of a text.
            comment = re.search(r"=[^\"'\[#]*(#.*)$", lines[i])
            tail = f"  {comment[1]}\n" if comment and written.count("\n") == 1 else "\n"
            return "".join([*lines[:i], written.removesuffix("\n") + tail, *lines[i + 1 :]])
    return "".join([*lines[: start + 1], written, *lines[start + 1 :]])


def _reads_as(text: str, wanted: dict[str, object]) -> bool:
    try:
        return tomllib.loads(text) == wanted
    except tomllib.TOMLDecodeError:
        return False
