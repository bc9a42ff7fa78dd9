"""`edge licences`: what is installed, under which licence, and whether any of it is GPL."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import Distribution
from pathlib import Path

import click
from packaging.utils import canonicalize_name

from apps.cli.options import json_option
from apps.packages import EXTRAS, Closure, closure
from edge.atomic import write_text
from edge.errors import InconclusiveError

# Foreign libraries inside wheels, which the wheels' own licence field does not name.
CARRIED = {
    "ctranslate2": "oneDNN (Apache-2.0), Intel oneMKL (Intel Simplified Software License), libgomp "
    "(GPL-3.0-or-later WITH GCC-exception-3.1)",
    "numpy": "OpenBLAS (BSD-3-Clause), libgfortran (GPL-3.0-or-later WITH "
    "GCC-exception-3.1), libquadmath (LGPL-2.1-or-later)",
    "pywebrtc-audio": "WebRTC audio processing (BSD-3-Clause)",
    "llama-cpp-python": "llama.cpp and ggml (MIT)",
    "sounddevice": "PortAudio (MIT), on macOS and Windows only",
    "soundfile": "libsndfile (LGPL-2.1-or-later), with FLAC, Ogg, Opus (BSD-3-Clause), LAME (LGPL)",
    "pyside6-essentials": "Qt (LGPL-3.0-only), as shared libraries that may be exchanged",
    "soxr": "libsoxr (LGPL-2.1-or-later)",
}

_CLASSIFIERS = {
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
_LONGEST_LICENCE = 60  # longer fields hold the licence's text, not its name
# AGPL counts as GPL; LGPL does not, nor does a GPL that an exception opens.
_GPL = re.compile(r"(?<![A-Za-z])A?GPL|GNU (AFFERO )?GENERAL PUBLIC", re.IGNORECASE)
_EXCEPTION = re.compile(r"\bWITH\b|EXCEPTION", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Row:
    """One package. gpl: its licence leaves no way but the GPL. carries: libraries inside it."""

    package: str
    version: str
    licence: str
    gpl: bool
    carries: str


def licence_of(distribution: Distribution) -> str:
    """A package's licence as its metadata names it: SPDX, else its short field, else classifier."""
    metadata = distribution.metadata
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    named = metadata["License"].strip() if "License" in metadata else ""
    if named and len(named) <= _LONGEST_LICENCE and "\n" not in named:
        return named
    kinds = [
        line.rpartition(" :: ")[2]
        for line in metadata.get_all("Classifier") or ()
        if line.startswith("License ::")
    ]
    return " AND ".join(_CLASSIFIERS.get(kind, kind) for kind in kinds) or "not stated"


def is_gpl(licence: str) -> bool:
    """Whether every way to use it goes through the GPL; `MIT OR GPL-2.0` leaves another way."""
    return all(
        any(
            _GPL.search(part) is not None and _EXCEPTION.search(part) is None
            for part in re.split(r"\s+AND\s+", way, flags=re.IGNORECASE)
        )
        for way in re.split(r"\s+OR\s+|\s*;\s*", licence, flags=re.IGNORECASE)
    )


def rows(found: Closure) -> list[Row]:
    """A row for each installed package, sorted by name."""
    return [_row(distribution) for distribution in found.installed]


def _row(distribution: Distribution) -> Row:
    name = canonicalize_name(distribution.metadata["Name"])
    licence = licence_of(distribution)
    version = distribution.version.partition("+")[0]
    return Row(name, version, licence, is_gpl(licence), CARRIED.get(name, ""))


def markdown(table: Sequence[Row], extra: str) -> str:
    """The table as a Markdown document."""
    lines = [
        "# Licences of third-party packages",
        "",
        f"What `pip install 'edgevoice[{extra}]'` brings, as the packages' own metadata says; made",
        "by `make licences`. edgevoice itself is Apache-2.0. The models' licences are listed by",
        "`edge models list`.",
        "",
        "| package | version | licence | libraries inside its wheel |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row.package} | {row.version} | {row.licence}{' **GPL**' if row.gpl else ''} "
        f"| {row.carries} |"
        for row in table
    ]
    return "\n".join(lines) + "\n"


def _plain(table: Sequence[Row]) -> str:
    widths = [max(len(getattr(row, key)) for row in table) for key in ("package", "version")]
    return "\n".join(
        f"{row.package:<{widths[0]}}  {row.version:<{widths[1]}}  {row.licence}"
        f"{'  <- GPL' if row.gpl else ''}"
        for row in table
    )


@click.command()
@click.option(
    "--extra",
    "extras",
    type=click.Choice(EXTRAS),
    multiple=True,
    default=("talk",),
    show_default=True,
    help="May be given more than once.",
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write Markdown there."
)
@json_option
@click.pass_context
def licences(
    ctx: click.Context, *, extras: tuple[str, ...], output: Path | None, as_json: bool
) -> None:
    """List the licences of what extras bring; exit code 1 if one of them is GPL."""
    extra, found = ",".join(extras), closure(extras)
    if found.missing:
        raise InconclusiveError(
            f"not installed, so their licences cannot be read: {', '.join(found.missing)}; "
            f"run: pip install 'edgevoice[{extra}]'"
        )
    table = rows(found)
    gpl = [row.package for row in table if row.gpl]
    if output is not None:
        write_text(output, markdown(table, extra))
    if as_json:
        packages = [asdict(row) for row in table]
        click.echo(json.dumps({"extra": extra, "packages": packages, "gpl": gpl}))
    elif output is None:
        click.echo(_plain(table))
    if gpl:
        click.echo(f"edge: error: GPL in extra {extra}: {', '.join(gpl)}", err=True)
        ctx.exit(1)
