"""`edge bench asr`: how words are counted and summed up; the model is tested elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.cli.bench_asr import read_manifest, summary, words
from edge.errors import UsageError
from runtime.models.text import words_wrong


@pytest.mark.parametrize(
    ("said", "heard", "wrong"),
    [
        ("a b c", "a b c", 0),
        ("a b c", "a c", 1),
        ("a b c", "a b c d", 1),
        ("a b c", "x y", 3),
        ("a b", "", 2),
        ("", "a b", 2),
        ("the cat sat", "cat sat down", 2),
    ],
)
def test_words_wrong_is_the_fewest_edits(said: str, heard: str, wrong: int) -> None:
    assert words_wrong(said.split(), heard.split()) == wrong
    assert words_wrong(heard.split(), said.split()) == wrong


def test_words_have_no_capitals_and_no_punctuation() -> None:
    text = 'He said: "It\'s twenty-two!" ...'
    assert words(text, lambda t: t) == ["he", "said", "its", "twenty", "two"]


def test_numbers_are_compared_as_they_are_spoken() -> None:
    assert words("6 spoons", lambda t: t.replace("6", "six")) == ["six", "spoons"]


def test_the_summary_adds_up() -> None:
    def row(short: int, full: int) -> dict[str, object]:
        return {
            "words": 10,
            "audio_s": 2.0,
            "short": {"wrong": short, "cpu_ms": 100.0, "ms": 110.0},
            "full": {"wrong": full, "cpu_ms": 500.0, "ms": 510.0},
        }

    total = summary([row(1, 0), row(2, 2)])
    assert total["short"]["wer_percent"] == 15.0
    assert total["wer_lost_points"] == 5.0
    assert total["cpu_ratio"] == 5.0
    assert total["full"]["cpu_per_audio_s"] == 0.25
    assert (total["full"]["wer_change_points"], total["full"]["cpu_ratio"]) == (-5.0, 5.0)


def test_only_transcribed_files_are_measured(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.tsv"
    manifest.write_text("file\tspeaker\ttranscript\na.wav\tx\tHello.\nb.wav\tx\t\n", "utf-8")
    assert [(clip.name, clip.said) for clip in read_manifest(tmp_path)] == [("a.wav", "Hello.")]


@pytest.mark.parametrize("content", [None, "file\ttranscript\n", "name\nx\n"])
def test_a_folder_without_transcripts_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "manifest.tsv").write_text(content, "utf-8")
    with pytest.raises(UsageError, match=r"manifest\.tsv"):
        read_manifest(tmp_path)
