"""Phrasings that are only trained on: a table's own ones, and a small grammar of frames.

A frame is what people say around a question or an order: "I was wondering", "if you can". Every
core of a kind goes into every frame of that kind; which of these come first an intent's key draws.
"""

from __future__ import annotations

import tomllib
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

KINDS = ("question", "clause", "order", "thing", "any")

Table = Mapping[str, Sequence[str]]


@cache
def tables() -> dict[str, dict[str, tuple[str, ...]]]:
    """By intent or kind of intent, and `frames`: lists of phrasings by how they are framed."""
    path = Path(__file__).parent / "configs" / "train_asks.toml"
    found = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        key: {kind: tuple(texts) for kind, texts in table.items()} for key, table in found.items()
    }


def candidates(key: str, kinds: Sequence[str], asks: Sequence[str]) -> Iterator[str]:
    """Phrasings of the intent `key`, plain ones first, then framed ones.

    kinds: of the intent, beside the table of its own name. asks: its first phrasings, which are
    framed where it has no table: questions as questions, the others as they are. What a table
    leaves open ({a}, {n} and so on) is open here too; their first letters are as they come.
    """
    held = [tables()[name] for name in (key, *kinds) if name in tables()]
    held = held or [{"question": _cores(asks, "?"), "any": _cores(asks, ".")}]
    yield from _drawn(key, {text for t in held for text in t.get("plain", ())})
    yield from _drawn(key, {text for t in held for text in _framed(t)})


def _drawn(key: str, texts: Iterable[str]) -> list[str]:
    """In an order that says nothing about them."""
    return sorted(texts, key=lambda text: zlib.crc32(f"{key}|{text}".encode()))


def _cores(asks: Sequence[str], end: str) -> tuple[str, ...]:
    """Those phrasings that end so, ready for a frame."""
    return tuple(_lowered(ask.removesuffix("?")) for ask in asks if ask.endswith(end))


def _framed(table: Table) -> Iterable[str]:
    """Every core of a table in every frame of its kind."""
    for kind in KINDS:
        for core in table.get(kind, ()):
            yield from (frame.replace("{x}", core) for frame in tables()["frames"][kind])


def _lowered(text: str) -> str:
    """Without its first capital, where that is not the word I."""
    return text if text.startswith(("I ", "I'm ")) else text[0].lower() + text[1:]
