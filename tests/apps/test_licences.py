"""What the extras bring: no torch in the lean runtime, no GPL, all of it pinned as installed."""

from __future__ import annotations

import json
from email.message import Message
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

import pytest

from apps.cli.licences import is_gpl, licence_of, markdown, rows
from apps.cli.main import run
from apps.packages import closure

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints"
NEVER_IN_TALK = {"torch", "faster-whisper", "av", "transformers", "piper-tts", "espeakng-loader"}


class Paper(Distribution):
    """A distribution that is only its metadata."""

    def __init__(self, *headers: tuple[str, str]) -> None:
        self._message = Message()
        for key, value in headers:
            self._message[key] = value

    @property
    def metadata(self) -> Message:  # type: ignore[override]
        return self._message

    @property
    def requires(self) -> list[str] | None:
        return self._message.get_all("Requires-Dist")

    def read_text(self, filename: str) -> str | None:
        return None

    def locate_file(self, path: object) -> Path:
        raise FileNotFoundError(str(path))


@pytest.mark.parametrize(
    ("licence", "gpl"),
    [
        ("MIT", False),
        ("GPL-3.0-or-later", True),
        ("AGPL-3.0", True),
        ("GNU General Public License v3 (GPLv3)", True),
        ("LGPL-2.1-or-later", False),
        ("GNU Lesser General Public License v2", False),
        ("MIT OR GPL-2.0-only", False),
        ("MIT AND GPL-2.0-only", True),
        ("GPL-3.0-or-later WITH GCC-exception-3.1", False),
        ("Apache-2.0 AND MIT", False),
    ],
)
def test_gpl_is_what_leaves_no_other_way(licence: str, *, gpl: bool) -> None:
    assert is_gpl(licence) is gpl


def test_the_most_exact_statement_of_a_licence_wins() -> None:
    classifier = ("Classifier", "License :: OSI Approved :: MIT License")
    short, long = ("License", "BSD 2-Clause"), ("License", "Permission is hereby granted " * 9)
    expression = ("License-Expression", "Apache-2.0")
    assert licence_of(Paper(classifier, short, expression)) == "Apache-2.0"
    assert licence_of(Paper(classifier, short)) == "BSD 2-Clause"
    assert licence_of(Paper(classifier, long)) == "MIT"
    assert licence_of(Paper()) == "not stated"


def test_the_closure_follows_extras_and_markers_and_survives_circles() -> None:
    shelf = {
        "house": Paper(
            ("Name", "house"),
            ("Requires-Dist", "Base_Lib>=1"),
            ("Requires-Dist", 'house[loud]; extra == "all"'),
            ("Requires-Dist", 'horn; extra == "loud"'),
            ("Requires-Dist", 'absent; extra == "loud"'),
            ("Requires-Dist", 'never; python_version < "3"'),
        ),
        "base-lib": Paper(("Name", "Base_Lib"), ("Requires-Dist", "house")),
        "horn": Paper(("Name", "horn")),
    }

    def find(name: str) -> Distribution:
        if name not in shelf:
            raise PackageNotFoundError(name)
        return shelf[name]

    plain, loud = (closure(extras, root="house", find=find) for extras in ([], ["all"]))
    assert [each.metadata["Name"] for each in plain.installed] == ["Base_Lib"]
    assert plain.missing == ()
    assert [each.metadata["Name"] for each in loud.installed] == ["Base_Lib", "horn"]
    assert loud.missing == ("absent",)


def test_the_lean_runtime_has_no_torch_and_no_gpl() -> None:
    table = rows(closure(["talk"]))
    assert {row.package for row in table}.isdisjoint(NEVER_IN_TALK)
    assert [row.package for row in table if row.gpl] == []
    assert all(row.licence != "not stated" for row in table)


@pytest.mark.parametrize(
    ("file", "extras"),
    [("runtime.txt", ["talk"]), ("all.txt", ["talk", "export", "quant", "plots", "dev"])],
)
def test_every_package_of_an_extra_is_pinned(file: str, extras: list[str]) -> None:
    lines = (CONSTRAINTS / file).read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert {row.package for row in rows(closure(extras))} <= {pin.split("==")[0] for pin in pins}
    assert all(len(pin.split("==")) == 2 and " " not in pin for pin in pins)


def test_both_constraint_files_agree() -> None:
    small, large = (
        set((CONSTRAINTS / name).read_text(encoding="utf-8").splitlines()[1:])
        for name in ("runtime.txt", "all.txt")
    )
    assert small < large


def test_the_command_writes_the_table_and_prints_one_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "LICENCES.md"
    assert run(["licences", "--output", str(document), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["gpl"] == []
    text = document.read_text(encoding="utf-8")
    assert text == markdown(rows(closure(["talk"])), "talk")
    assert all(f"| {package['package']} |" in text for package in found["packages"])
