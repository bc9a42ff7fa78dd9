"""The miniature that comes with edgevoice: whole, locked, small, and what `edge talk` opens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from apps.cli.main import run
from apps.mini import SHIPPED, shipped_model, table_of
from edge.lock import read_lock
from edge.manifest import read_manifest, verify
from edge.store import ModelStore

MOST_BYTES = 40_000_000


def test_it_is_whole_and_small() -> None:
    folder = shipped_model()
    for place in (folder, folder / "mimi"):
        verify(place, read_manifest(place))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert size < MOST_BYTES


def test_the_lock_names_every_file_of_it(tmp_path: Path) -> None:
    lock = read_lock()
    entry = lock.get("miniature")
    named = {file.path for file in entry.files}
    there = {p.relative_to(SHIPPED).as_posix() for p in SHIPPED.rglob("*") if p.is_file()}
    assert named == there
    files = ModelStore(lock, root=tmp_path).files("miniature")
    assert set(files) == named


def test_its_card_says_what_it_is_not() -> None:
    card = (SHIPPED / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "It is no assistant" in card
    assert "Licence" in card or "licence" in card


def test_talk_opens_it_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    question = Path(__file__).resolve().parents[2] / "apps" / "assets" / "question.flac"
    out = tmp_path / "reply.wav"
    words = [
        "talk",
        "--privacy",
        "off",
        "--engine",
        "duplex",
        "--input",
        str(question),
        "--output",
        str(out),
    ]
    assert run([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["frames"]["count"] > 10
    assert out.stat().st_size > 1000


def test_the_table_sets_each_figure_beside_what_is_wanted() -> None:
    voice = {"n": 1, "estoi": 0.5, "wer": 0.4, "wer_of_original": 0.1}
    report = {
        "stage": "core",
        "codec": {"own": voice, "seen": voice, "unseen": voice, "real": voice,
                  "code_entropy_share": [0.8, 0.7]},
        "answers": {"new phrasing": {"n": 1, "right_by_text": 0.5, "right_by_sound": 0.25},
                    "reply_wer_to_inner_text": 0.3, "starts_after_ms_p50": None, "no_reply": 1},
        "interruptions": {"n": 0, "stops_after_ms_p50": 240.0},
        "silence": {"minutes": 5.0, "false_starts": 0},
        "step_ms": {"p99": 12.0},
    }  # fmt: skip
    table = table_of(report)
    cells = [list(column.cells) for column in table.columns]
    assert len(cells[0]) == len(cells[1]) == len(cells[2]) == 11
    assert "never" in cells[1]
    assert "240 ms" in cells[1]
