"""The picture of a search: every mix on the way, and the uniform files that it is to beat."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edge.store import size_text
from quant.mixes import Found, Mixes, Uniform
from quant.search import Checked

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 760, 420, 90, 60
_STYLE = (
    "body{font:15px system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;"
    "color:#1a1a1a;background:#fff}table{border-collapse:collapse}td,th{padding:.2rem .8rem;"
    "text-align:right;border-bottom:1px solid #ddd}td:first-child{text-align:left}"
    "svg{width:100%;height:auto}"
)
# What a decibel of each kind is of.
_KINDS: Mapping[str, str] = {
    "weights": "weights over their error",
    "tokens": "lead of the best entry over noise in the codec's choice of codes",
    "sound": "sound of the same codes over its change",
    "kl": "one nat over the KL divergence of all that is drawn in a frame",
}
Place = Callable[[float, float], tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Picture:
    """What a page shows. checked: both made whole and run; None where that was not done.

    labels: what the figures cannot show.
    """

    mixes: Mixes
    found: Found
    uniform: Sequence[Uniform]
    than: Uniform | None = None
    checked: Checked | None = None
    labels: Sequence[str] = ()


def better(mixes: Mixes, than: Uniform) -> tuple[Found, Found]:
    """The smallest mix of no more damage of any kind, and the least damaged of no more size."""
    return mixes.within(than.damages), mixes.of_size(than.size_bytes)


def page(title: str, shown: Picture) -> str:
    """A whole page of HTML that needs nothing else."""
    kinds = shown.mixes.weighed.every_kind
    than = f", 0 dB being that of all {shown.than.precision}" if shown.than else ""
    worse = "the worse of these, " if len(kinds) > 1 else ""
    about = "; ".join(f"<b>{kind}</b>: {_KINDS[kind]}" for kind in kinds)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(title)}</h1>{_labels(shown)}{svg(shown)}"
        f"<p>Upwards: {worse}in decibels{than}. {about}.</p>"
        "<p>Expected from each weight rounded alone; on other sound it is for "
        f"<code>edge measure</code> to say.</p>{_table(shown)}{_checked(shown)}</html>\n"
    )


def _labels(shown: Picture) -> str:
    return "".join(f"<p><b>{html.escape(label)}</b></p>" for label in shown.labels)


def svg(shown: Picture) -> str:
    """The picture: size to the right, expected quality upwards, both as they are."""
    worst = shown.mixes.worst
    points = _drawn([(p.size_bytes, p.damage, "") for p in shown.mixes.front()])
    dots = _drawn([(u.size_bytes, worst(u.damages), u.precision) for u in shown.uniform])
    chosen = _drawn([(shown.found.size_bytes, shown.found.damage, "")])
    every = [*points, *dots] or [(1, 0.0, ""), (2, 1.0, "")]
    low_x, high_x = min(one[0] for one in every), max(one[0] for one in every)
    low_y, high_y = min(one[1] for one in every), max(one[1] for one in every)

    def at(x: float, y: float) -> tuple[float, float]:
        right = (x - low_x) / max(1, high_x - low_x) * (_WIDTH - _LEFT - 90)
        up = (y - low_y) / max(1e-9, high_y - low_y) * (_HEIGHT - _BOTTOM - 40)
        return round(_LEFT + right, 1), round(_HEIGHT - _BOTTOM - up, 1)

    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        'aria-label="size against expected quality" font-family="sans-serif" font-size="13">'
    )
    path = " ".join("{},{}".format(*at(x, y)) for x, y, _ in points)
    parts = [
        head,
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        *_axes(low_x, high_x, low_y, high_y, at),
        f'<polyline fill="none" stroke="#0a6" stroke-width="2" points="{path}"/>',
    ]
    for x, y, name in dots:
        cx, cy = at(x, y)
        parts.append(f'<circle cx="{cx}" cy="{cy}" r="5" fill="#c30"/>')
        parts.append(f'<text x="{cx + 8}" y="{cy + 15}" fill="#c30">all {html.escape(name)}</text>')
    for x, y, _ in chosen:
        cx, cy = at(x, y)
        parts += [
            f'<circle cx="{cx}" cy="{cy}" r="7" fill="none" stroke="#06c" stroke-width="2"/>',
            f'<text x="{cx - 10}" y="{cy - 10}" fill="#06c" text-anchor="end">chosen</text>',
        ]
    return "".join([*parts, "</svg>"])


def _table(shown: Picture) -> str:
    """Every uniform file beside the mixes that beat it."""
    kinds = shown.mixes.weighed.every_kind
    rows = []
    for one in shown.uniform:
        if max(one.damages.values()) <= 0:
            continue
        small, mild = better(shown.mixes, one)
        rows.append(
            f"<tr><td>all {html.escape(one.precision)}</td><td>{size_text(one.size_bytes)}</td>"
            f"<td>{_decibels(one.damages, kinds)}</td><td>{size_text(small.size_bytes)}</td>"
            f"<td>{_decibels(mild.damages, kinds)}</td></tr>"
        )
    return (
        f"<table><tr><th></th><th>weights</th><th>{' / '.join(kinds)}</th><th>a mix as good has"
        f"</th><th>a mix as small has</th></tr>{''.join(rows)}</table>"
    )


def _checked(shown: Picture) -> str:
    """What the whole files did when they were run."""
    checked = shown.checked
    if checked is None or shown.than is None:
        return ""
    kinds = shown.mixes.weighed.every_kind
    head = "".join(f"<th>{kind}</th>" for kind in kinds)
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{size_text(size)}</td>"
        f"{''.join(f'<td>{_db(damages[kind]):.1f} dB</td>' for kind in kinds)}</tr>"
        for name, size, damages in (
            (f"all {shown.than.precision}", checked.uniform_file_bytes, checked.uniform_damages),
            ("chosen", checked.file_bytes, checked.damages),
        )
    )
    return (
        "<p>Made whole and run on the same sound:</p>"
        f"<table><tr><th></th><th>files</th>{head}</tr>{rows}</table>"
    )


def _axes(low_x: float, high_x: float, low_y: float, high_y: float, at: Place) -> list[str]:
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
            f'<text x="{_LEFT - 8}" y="{cy + 4}" text-anchor="end">{round(y)} dB</text>',
        ]
    place = f'x="{_WIDTH // 2}" y="{_HEIGHT - 10}" text-anchor="middle"'
    return [*parts, f"<text {place}>weights</text>"]


def _drawn(found: Sequence[tuple[int, float, str]]) -> list[tuple[int, float, str]]:
    """With decibels for damages; what does none has no place in the picture."""
    return [(size, _db(damage), name) for size, damage, name in found if damage > 0]


def _decibels(damages: Mapping[str, float], kinds: Sequence[str]) -> str:
    return " / ".join(f"{_db(damages[kind]):.1f}" for kind in kinds) + " dB"


def _db(damage: float) -> float:
    """Noise over signal as decibels of signal over noise; of nothing, more than any."""
    return -10 * math.log10(damage) if damage > 0 else math.inf
