"""The picture of a search: every mix on the way, and the uniform files that it is to beat."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge.store import size_text
from quant.search import Found, Option, Point

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 760, 420, 90, 60
_STYLE = (
    "body{font:15px system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;"
    "color:#1a1a1a;background:#fff}table{border-collapse:collapse}td,th{padding:.2rem .8rem;"
    "text-align:right;border-bottom:1px solid #ddd}td:first-child{text-align:left}"
    "svg{width:100%;height:auto}"
)


@dataclass(frozen=True, slots=True)
class Uniform:
    """All weights in one precision, or the nearest more precise one that they can take."""

    precision: str
    size_bytes: int
    damage: float


def uniforms(options: Mapping[str, Sequence[Option]]) -> tuple[Uniform, ...]:
    """One for each precision that any weight can take, largest first."""
    names = list(dict.fromkeys(one.precision for found in options.values() for one in found))
    order = {name: i for i, name in enumerate(names)}
    made = []
    for name in names:
        taken = []
        for found in options.values():
            at_most = [one for one in found if order[one.precision] <= order[name]]
            taken.append(at_most[-1] if at_most else found[0])
        size, damage = sum(one.size_bytes for one in taken), sum(one.damage for one in taken)
        made.append(Uniform(name, size, damage))
    return tuple(sorted(made, key=lambda one: -one.size_bytes))


def better(front: Sequence[Point], than: Uniform) -> tuple[Point | None, Point | None]:
    """The smallest mix of no more damage, and the least damaged of no more size."""
    small = [one for one in front if one.damage <= than.damage]
    mild = [one for one in front if one.size_bytes <= than.size_bytes]
    return (
        min(small, key=lambda one: one.size_bytes, default=None),
        min(mild, key=lambda one: one.damage, default=None),
    )


def page(title: str, found: Found, compared: Sequence[Uniform]) -> str:
    """A whole page of HTML that needs nothing else."""
    rows = []
    for one in compared:
        if one.damage <= 0:
            continue
        small, mild = better(found.front, one)
        as_good = size_text(small.size_bytes) if small else "none"
        as_small = f"{_db(mild.damage):.1f} dB" if mild and mild.damage > 0 else "none"
        rows.append(
            f"<tr><td>all {html.escape(one.precision)}</td><td>{size_text(one.size_bytes)}</td>"
            f"<td>{_db(one.damage):.1f} dB</td><td>{as_good}</td><td>{as_small}</td></tr>"
        )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(title)}</h1>{svg(found, compared)}"
        "<p>Expected signal over noise, from each weight rounded alone: what a mix really does is "
        "for <code>edge measure</code> to say.</p><table><tr><th></th><th>weights</th>"
        "<th>expected</th><th>a mix as good has</th><th>a mix as small has</th></tr>"
        f"{''.join(rows)}</table></html>\n"
    )


def svg(found: Found, compared: Sequence[Uniform]) -> str:
    """The picture: size to the right, expected signal over noise upwards, both as they are."""
    points = [(one.size_bytes, _db(one.damage)) for one in found.front if one.damage > 0]
    dots = [(one.size_bytes, _db(one.damage), one.precision) for one in compared if one.damage > 0]
    chosen = (found.size_bytes, _db(found.damage)) if found.damage > 0 else None
    every = [*points, *((x, y) for x, y, _ in dots)] or [(1, 0.0), (2, 1.0)]
    low_x, high_x = min(x for x, _ in every), max(x for x, _ in every)
    low_y, high_y = min(y for _, y in every), max(y for _, y in every)

    def at(x: float, y: float) -> tuple[float, float]:
        right = (x - low_x) / max(1, high_x - low_x) * (_WIDTH - _LEFT - 90)
        up = (y - low_y) / max(1e-9, high_y - low_y) * (_HEIGHT - _BOTTOM - 40)
        return round(_LEFT + right, 1), round(_HEIGHT - _BOTTOM - up, 1)

    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        'aria-label="size against expected quality" font-family="sans-serif" font-size="13">'
    )
    parts = [
        head,
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        *_axes(low_x, high_x, low_y, high_y, at),
        f'<polyline fill="none" stroke="#0a6" stroke-width="2" points="{_path(points, at)}"/>',
    ]
    for x, y, name in dots:
        cx, cy = at(x, y)
        parts.append(f'<circle cx="{cx}" cy="{cy}" r="5" fill="#c30"/>')
        parts.append(f'<text x="{cx + 8}" y="{cy + 15}" fill="#c30">all {html.escape(name)}</text>')
    if chosen:
        cx, cy = at(*chosen)
        parts += [
            f'<circle cx="{cx}" cy="{cy}" r="7" fill="none" stroke="#06c" stroke-width="2"/>',
            f'<text x="{cx + 10}" y="{cy - 8}" fill="#06c">chosen</text>',
        ]
    return "".join([*parts, "</svg>"])


def _axes(low_x: float, high_x: float, low_y: float, high_y: float, at: object) -> list[str]:
    assert callable(at)
    parts = []
    for i in range(5):
        x = low_x + (high_x - low_x) * i / 4
        cx, _ = at(x, low_y)
        below = f'<text x="{cx}" y="{_HEIGHT - 34}" text-anchor="middle">'
        parts.append(f"{below}{html.escape(size_text(int(x)))}</text>")
        y = low_y + (high_y - low_y) * i / 4
        _, cy = at(low_x, y)
        parts += [
            f'<line x1="{_LEFT}" x2="{_WIDTH - 20}" y1="{cy}" y2="{cy}" stroke="#ddd"/>',
            f'<text x="{_LEFT - 8}" y="{cy + 4}" text-anchor="end">{y:.0f} dB</text>',
        ]
    place = f'x="{_WIDTH // 2}" y="{_HEIGHT - 10}" text-anchor="middle"'
    return [*parts, f"<text {place}>weights</text>"]


def _path(points: Sequence[tuple[int, float]], at: object) -> str:
    assert callable(at)
    return " ".join("{},{}".format(*at(x, y)) for x, y in points)


def _db(damage: float) -> float:
    """Noise over signal as decibels of signal over noise."""
    return -10 * math.log10(damage)
