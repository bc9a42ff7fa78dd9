"""models.lock: read strictly, or refused with file, table and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import LockError, UsageError
from edge.lock import FileSource, HfSource, PackageSource, PypiPartsSource, PypiSource, read_lock

SHA = "ab" * 32

LOCK = f"""
version = 1
[[model]]
name = "tiny-1.0"
role = "llm"
format = "gguf"
precision = "q4_0"
licence = "Apache-2.0 WITH LLVM-exception OR MIT"
origin = "somebody, somebody/tiny"
language = "en"
starter = true
revision = "0123abc"
file = [
  {{ path = "sub/weights.gguf", size_bytes = 1_000, sha256 = "{SHA}" }},
  {{ path = "tokenizer.json", sha256 = "{SHA}" }},
]
[[model.source]]
kind = "package"
distribution = "tiny-pack"
version = "1.0"
prefix = "tiny_pack/data/"
files = ["tokenizer.json"]
[[model.source]]
kind = "pypi-parts"
file = "sub/weights.gguf"
parts = [{{ distribution = "tiny-a", version = "1.0", member = "tiny_a/part" }}]
[[model.source]]
kind = "pypi"
distribution = "tiny-pack"
version = "1.0"
prefix = "tiny_pack/data/"
[[model.source]]
kind = "hf"
repository = "somebody/tiny"
revision = "main"
[[model.source]]
kind = "file"
where = "the shelf"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "models.lock"
    path.write_text(text, encoding="utf-8")
    return path


def test_everything_that_is_written_is_read(tmp_path: Path) -> None:
    (entry,) = read_lock(write(tmp_path, LOCK)).models
    package, parts, pypi, hub, by_hand = entry.sources
    assert (entry.name, entry.role, entry.format, entry.starter) == (
        "tiny-1.0",
        "llm",
        "gguf",
        True,
    )
    assert [file.path for file in entry.files] == ["sub/weights.gguf", "tokenizer.json"]
    assert entry.files[0].size_bytes == 1000
    assert isinstance(package, PackageSource)
    assert package.files == ("tokenizer.json",)
    assert isinstance(parts, PypiPartsSource)
    assert parts.parts[0].member == "tiny_a/part"
    assert isinstance(pypi, PypiSource)
    assert pypi.files == ("sub/weights.gguf", "tokenizer.json")
    assert isinstance(hub, HfSource)
    assert (hub.repository, hub.prefix) == ("somebody/tiny", "")
    assert isinstance(by_hand, FileSource)


def test_a_size_that_is_not_known_makes_the_sum_unknown(tmp_path: Path) -> None:
    known = LOCK.replace('path = "tokenizer.json",', 'path = "tokenizer.json", size_bytes = 5,')
    assert read_lock(write(tmp_path, LOCK)).models[0].size_bytes is None
    assert read_lock(write(tmp_path, known)).models[0].size_bytes == 1005


# What is replaced, by what, and what the one line must name.
FAULTS = {
    "unknown key in a file": (
        'sha256 = "' + SHA,
        f'sha265 = "{SHA}',
        ["file 1", "sha265", "sha256"],
    ),
    "unknown key in a model": ("licence =", "license =", ["tiny-1.0", "license", "licence"]),
    "unknown key at the top": ("version = 1\n", "version = 1\nmodels = 2\n", ["models", "model"]),
    "unknown key in a source": ('where = "the', 'were = "x"\nwhere = "the', ["source 5", "were"]),
    "missing key": ('precision = "q4_0"\n', "", ["tiny-1.0", "precision", "missing"]),
    "text for a flag": ("starter = true", 'starter = "true"', ["starter", "true or false"]),
    "flag for a number": ("size_bytes = 1_000", "size_bytes = true", ["size_bytes", "number"]),
    "negative size": ("size_bytes = 1_000", "size_bytes = -1", ["size_bytes", "above 0"]),
    "short hash": (SHA, SHA[:-1], ["sha256", "64"]),
    "upper case hash": (SHA, SHA.upper(), ["sha256", "64"]),
    "unknown role": ('role = "llm"', 'role = "lmm"', ["role", "lmm", "llm"]),
    "unknown kind": ('kind = "hf"', 'kind = "url"', ["source 4", "kind", "url"]),
    "path upwards": ("sub/weights.gguf", "../weights.gguf", ["path", "inside"]),
    "absolute path": ("sub/weights.gguf", "/etc/weights.gguf", ["path", "inside"]),
    "path with a backslash": ("sub/weights.gguf", "sub\\\\weights.gguf", ["path", "inside"]),
    "prefix upwards": ('prefix = "tiny_pack/data/"', 'prefix = "../x/"', ["prefix", "inside"]),
    "name as a path": ('name = "tiny-1.0"', 'name = "../tiny"', ["name", "letters"]),
    "option for a name": ('distribution = "tiny-pack"', 'distribution = "-r"', ["distribution"]),
    "address for a repository": ('"somebody/tiny"\nr', '"https://x/y"\nr', ["repository"]),
    "same path twice": ('path = "tokenizer.json"', 'path = "sub/Weights.gguf"', ["twice"]),
    "source of another file": ('["tokenizer.json"]', '["tokeniser.json"]', ["tokeniser.json"]),
    "words for a licence": ("Apache-2.0 WITH", "do, what you WITH", ["licence", "SPDX"]),
    "newer version": ("version = 1\n", "version = 2\n", ["version 2"]),
    "no models": (LOCK[LOCK.index("[[model]]") :], "model = []\n", ["model", "at least one"]),
    "not TOML": ("[[model]]", "[[model]", ["TOML", "line 3"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_refused_with_file_table_and_key(tmp_path: Path, fault: str) -> None:
    old, new, named = FAULTS[fault]
    path = write(tmp_path, LOCK.replace(old, new))
    with pytest.raises(LockError) as caught:
        read_lock(path)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in [str(path), *named]), message


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LockError, match=r"two models are called 'tiny-1\.0'"):
        read_lock(write(tmp_path, LOCK + LOCK.replace("version = 1\n", "", 1)))


def test_a_file_that_no_source_holds_is_refused(tmp_path: Path) -> None:
    text = LOCK[: LOCK.index('[[model.source]]\nkind = "pypi"')]
    text = text.replace('files = ["tokenizer.json"]', 'files = ["sub/weights.gguf"]')
    with pytest.raises(LockError, match=r"no source holds 'tokenizer\.json'"):
        read_lock(write(tmp_path, text))


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="cannot be read"):
        read_lock(tmp_path / "none.lock")
    (tmp_path / "latin").write_bytes(b'origin = "\xe9"')
    with pytest.raises(LockError, match="not TOML"):
        read_lock(tmp_path / "latin")


def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(tmp_path: Path) -> None:
    lock = read_lock(write(tmp_path, LOCK))
    assert lock.get("tiny-1.0") is lock.models[0]
    with pytest.raises(UsageError, match=r"did you mean tiny-1\.0"):
        lock.get("tiny-1")


def test_the_lock_that_we_ship_is_whole() -> None:
    lock = read_lock()
    roles = [entry.role for entry in lock.starter()]
    assert sorted(roles) == ["asr", "llm", "tts", "turn", "vad"]
    assert all(entry.size_bytes is not None for entry in lock.starter())
    # A fresh machine needs no hub: each starter file is in a package or in a wheel.
    for entry in lock.starter():
        for file in entry.files:
            kinds = [type(source) for source in entry.sources if file.path in source.files]
            assert {PackageSource, PypiSource} & set(kinds), (entry.name, file.path)


def test_equal_hashes_have_equal_sizes_in_the_lock_that_we_ship() -> None:
    sizes: dict[str, set[int | None]] = {}
    for entry in read_lock().models:
        for file in entry.files:
            sizes.setdefault(file.sha256, set()).add(file.size_bytes)
    assert all(len(size) == 1 for size in sizes.values())
