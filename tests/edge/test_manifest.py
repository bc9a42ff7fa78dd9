"""Manifests: what is written is read, and nothing that differs from it passes."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import ArtifactError, EdgeError
from edge.manifest import (
    FileRecord,
    GraphSpec,
    Manifest,
    RecipeRecord,
    SourceRecord,
    StatePair,
    TensorSpec,
    read_manifest,
    record_file,
    verify,
    write_manifest,
)

SHA = "0123456789abcdef" * 4


def _graph() -> GraphSpec:
    return GraphSpec(
        name="encode",
        file="graphs/encode.onnx",
        inputs=(
            TensorSpec("pcm", "float32", (1, "n_samples")),
            TensorSpec("tail", "float32", (1, 64, 6)),
            TensorSpec("k", "float16", (8, 250, 64)),
        ),
        outputs=(
            TensorSpec("codes", "int64", (8,)),
            TensorSpec("next_tail", "float32", (1, 64, 6)),
            TensorSpec("new_k", "float16", (8, 2, 64)),
        ),
        states=(StatePair("tail", "next_tail", "conv"), StatePair("k", "new_k", "kv")),
    )


def _artifact(folder: Path) -> Manifest:
    """A whole artifact on the disk, and its manifest."""
    (folder / "graphs").mkdir(parents=True)
    (folder / "graphs" / "encode.onnx").write_bytes(bytes(range(256)) * 5)
    (folder / "weights.gguf").write_bytes(b"GGUF" + b"\0" * 100)
    manifest = Manifest(
        kind="mimi",
        files=tuple(record_file(folder, name) for name in ("graphs/encode.onnx", "weights.gguf")),
        config={"n_q": 8, "ratios": [8, 6, 5, 4], "rope": {"base": 10_000.0}, "causal": True},
        graphs=(_graph(),),
        recipe=RecipeRecord("compact", {"encoder.0.weight": "q8_0", "emb": "float16"}),
        sources=(SourceRecord("model.safetensors", SHA),),
        tools={"onnx": "1.17.0"},
    )
    write_manifest(folder, manifest)
    return manifest


def _edit(folder: Path, change: dict[str, Any]) -> None:
    document = tomllib.loads((folder / "manifest.toml").read_text())
    document.update(change)
    (folder / "manifest.toml").write_text(tomli_w.dumps(document))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    manifest = _artifact(tmp_path)
    assert read_manifest(tmp_path) == manifest
    verify(tmp_path, read_manifest(tmp_path))
    assert manifest.graph("encode") == _graph()
    with pytest.raises(ArtifactError, match="it has: encode"):
        manifest.graph("decode")


def test_the_least_manifest_is_float_and_has_nothing_else(tmp_path: Path) -> None:
    write_manifest(tmp_path, Manifest("asr", ()))
    manifest = read_manifest(tmp_path)
    assert manifest == Manifest("asr", ())
    assert manifest.recipe.name == "float"


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=10, deadline=None)
@given(config=st.dictionaries(TEXTS, VALUES, max_size=4), tensors=st.dictionaries(TEXTS, TEXTS))
def test_any_config_survives(
    tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any], tensors: dict[str, str]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    manifest = Manifest("mimi", (), config=config, recipe=RecipeRecord("int8", tensors))
    write_manifest(folder, manifest)
    assert read_manifest(folder) == manifest


@pytest.mark.parametrize("name", ["graphs/encode.onnx", "weights.gguf"])
@pytest.mark.parametrize("at", [0, 50, -1])
def test_one_flipped_bit_is_found(tmp_path: Path, name: str, at: int) -> None:
    manifest = _artifact(tmp_path)
    raw = bytearray((tmp_path / name).read_bytes())
    raw[at] ^= 1
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(ArtifactError, match=r"damaged.*fetch or export") as caught:
        verify(tmp_path, manifest)
    assert str(tmp_path / name) in str(caught.value)


def test_a_missing_or_cut_file_is_found(tmp_path: Path) -> None:
    manifest = _artifact(tmp_path)
    (tmp_path / "weights.gguf").write_bytes(b"GGUF")
    with pytest.raises(ArtifactError, match=r"has 4 bytes, the manifest says 104"):
        verify(tmp_path, manifest)
    (tmp_path / "weights.gguf").unlink()
    with pytest.raises(ArtifactError, match=r"weights\.gguf is missing"):
        verify(tmp_path, manifest)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    manifest = _artifact(folder)
    (tmp_path / "outside").write_bytes((folder / "weights.gguf").read_bytes())
    (folder / "weights.gguf").unlink()
    (folder / "weights.gguf").symlink_to(tmp_path / "outside")
    with pytest.raises(ArtifactError, match="link out of the artifact"):
        verify(folder, manifest)
    (folder / "weights.gguf").unlink()
    (tmp_path / "dir").mkdir()
    (tmp_path / "outside").rename(tmp_path / "dir" / "weights.gguf")
    (folder / "sub").symlink_to(tmp_path / "dir")
    with pytest.raises(ArtifactError, match="link out of the artifact"):
        record_file(folder, "sub/weights.gguf")


def test_a_folder_that_is_reached_by_a_link_is_fine(tmp_path: Path) -> None:
    manifest = _artifact(tmp_path / "artifact")
    (tmp_path / "link").symlink_to(tmp_path / "artifact")
    verify(tmp_path / "link", manifest)
    assert read_manifest(tmp_path / "link") == manifest


@pytest.mark.parametrize(
    "path",
    ["../x", "a/../../x", "/etc/passwd", "", ".", "a//b", "./a", "a/", "a\\b", "C:/x", "a\0b",
     "manifest.toml"],
)  # fmt: skip
def test_a_path_that_is_not_inside_is_refused(tmp_path: Path, path: str) -> None:
    _artifact(tmp_path)
    manifest = Manifest("mimi", (FileRecord(path, 0, SHA),))
    with pytest.raises(ArtifactError):
        write_manifest(tmp_path, manifest)
    with pytest.raises(ArtifactError):
        verify(tmp_path, manifest)
    _edit(tmp_path, {"files": [{"path": path, "size_bytes": 0, "sha256": SHA}], "graphs": []})
    with pytest.raises(ArtifactError, match="the file "):
        read_manifest(tmp_path)


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"kinds": "mimi"}, r"unknown key kinds; did you mean kind\?"),
    ({"recipe": {"nam": "int8"}}, r"unknown key recipe\.nam; did you mean recipe\.name\?"),
    ({"recipe": {"tensors": {"a": 8}}}, r"recipe\.tensors\.a is 8; it must be text"),
    ({"kind": 3}, "kind is 3; it must be text"),
    ({"kind": ""}, "kind is empty"),
    ({"files": "all"}, "files is 'all'; it must be a list"),
    ({"files": ["a"]}, r"files\[0\] is 'a'; it must be a table"),
    ({"files": [{"path": "a"}]}, r"files\[0\]\.size_bytes is missing"),
    ({"files": [{"path": "a", "size_bytes": -1, "sha256": SHA}]}, "whole number >= 0"),
    ({"files": [{"path": "a", "size_bytes": True, "sha256": SHA}]}, "whole number >= 0"),
    ({"files": [{"path": "a", "size_bytes": 1, "sha256": "AB"}]}, "no sha256"),
    ({"files": [{"path": "a", "size_bytes": 1, "sha256": SHA}] * 2}, "'a' is listed twice"),
    ({"files": []}, "not among the files"),
    ({"config": 1}, "config is 1; it must be a table"),
    ({"format_version": 2}, "reads 1; update edgevoice"),
    ({"format_version": "1"}, "format_version is 1"),
]


@pytest.mark.parametrize(("change", "says"), CHANGES)
def test_a_wrong_manifest_is_refused_and_the_place_is_named(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    _artifact(tmp_path)
    _edit(tmp_path, change)
    with pytest.raises(ArtifactError, match=says) as caught:
        read_manifest(tmp_path)
    assert str(tmp_path / "manifest.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("states", "says"),
    [
        ((StatePair("nothing", "next_tail", "conv"),), "not in its tensors"),
        ((StatePair("tail", "nothing", "conv"),), "not in its tensors"),
        ((StatePair("tail", "codes", "other"),), "is float32"),
        ((StatePair("tail", "new_k", "kv"),), "is float32"),
        ((StatePair("k", "new_k", "conv"),), r"\[8, 2, 64\]"),
        ((StatePair("tail", "next_tail", "conv"),) * 2, "listed twice"),
    ],
)
def test_states_that_do_not_fit_are_refused(
    tmp_path: Path, states: tuple[StatePair, ...], says: str
) -> None:
    whole = _artifact(tmp_path)
    graph = dataclasses.replace(_graph(), states=states)
    with pytest.raises(ArtifactError, match=says):
        write_manifest(tmp_path, dataclasses.replace(whole, graphs=(graph,)))
    assert read_manifest(tmp_path) == whole


def test_what_is_no_artifact_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not there"):
        read_manifest(tmp_path / "missing")
    with pytest.raises(ArtifactError, match="so it is no artifact"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.toml").write_text("kind = ")
    with pytest.raises(ArtifactError, match="not valid TOML"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_manifest(tmp_path)


def test_a_config_that_toml_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="config holds what TOML cannot"):
        write_manifest(tmp_path, Manifest("mimi", (), config={"a": None}))
    assert list(tmp_path.iterdir()) == []
