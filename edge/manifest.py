"""manifest.toml: what is in an artifact directory, exactly, and how to tell that it still is.

An artifact is a folder of ONNX and GGUF files, tokenizers and the like. Its manifest lists each
file with its hash, each graph with its tensors and carried states, and what everything was made
from. Nothing of a folder is used that its manifest does not list, and nothing whose hash differs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Literal

from edge.atomic import write_text
from edge.errors import ArtifactError
from edge.hashing import sha256_of
from edge.manifest_parse import parse_manifest

FILE_NAME = "manifest.toml"
FORMAT_VERSION = 1

StateKind = Literal["conv", "kv", "other"]
DType = Literal[
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "int4",
    "uint64", "uint32", "uint16", "uint8", "uint4", "bool", "string",
]  # fmt: skip
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_AGAIN = "fetch or export the artifact again"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file of the artifact. path: relative, with forward slashes; sha256: 64 hex digits."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A graph's input or output. shape: sizes, or names for the sizes that are free."""

    name: str
    dtype: DType
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class StatePair:
    """A state that a step hands to the next: the output that becomes, or goes into, the input.

    kind: "conv" is a tail of samples, replaced whole; "kv" is an attention cache, to which the
    output may only add, so its shape may differ; "other" is replaced whole too.
    """

    input: str
    output: str
    kind: StateKind


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """A graph: the listed file it is in, its tensors in order, and which of them are states."""

    name: str
    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StatePair, ...] = ()


@dataclass(frozen=True, slots=True)
class RecipeRecord:
    """How it was made smaller. tensors: what each became, such as "q8_0"; all are float if none."""

    name: str = "float"
    tensors: Mapping[str, str] = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """A checkpoint file that it was made from."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that is known of an artifact.

    kind: what can run it, such as "mimi". config: that model's sizes and ids, in TOML's types
    (lists, not tuples). tools: name -> version of what made it.
    """

    kind: str
    files: tuple[FileRecord, ...]
    config: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    graphs: tuple[GraphSpec, ...] = ()
    recipe: RecipeRecord = field(default_factory=RecipeRecord)
    sources: tuple[SourceRecord, ...] = ()
    tools: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    format_version: int = FORMAT_VERSION

    def graph(self, name: str) -> GraphSpec:
        """The graph of that name. Raises ArtifactError."""
        for graph in self.graphs:
            if graph.name == name:
                return graph
        there = ", ".join(graph.name for graph in self.graphs) or "none"
        raise ArtifactError(f"the artifact has no graph {name!r} (it has: {there}); {_AGAIN}")


def read_manifest(directory: Path) -> Manifest:
    """The manifest of an artifact, checked in itself; verify() checks the files.

    Raises ArtifactError: no such folder, no manifest, not TOML, an unknown or missing key, a value
    of the wrong kind, a path out of the folder, or parts that contradict each other.
    """
    path = directory / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        what = f"has no {FILE_NAME}, so it is no artifact" if directory.is_dir() else "is not there"
        raise ArtifactError(f"{directory} {what}; check the name, or {_AGAIN}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}; {_AGAIN}") from error
    manifest = parse_manifest(Manifest, text, path, FORMAT_VERSION)
    _check(manifest, path)
    return manifest


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Put the manifest into its folder, all or nothing; the last thing to do in making one.

    Raises ArtifactError where it contradicts itself, EdgeError where it cannot be written.
    """
    import tomli_w

    path = directory / FILE_NAME
    _check(manifest, path)
    plain = {name: getattr(manifest, name) for name in ("format_version", "kind")}
    plain["config"], plain["tools"] = dict(manifest.config), dict(manifest.tools)
    recipe = manifest.recipe
    plain["recipe"] = {"name": recipe.name, "tensors": dict(recipe.tensors)}
    for name in ("sources", "files", "graphs"):
        plain[name] = [asdict(part) for part in getattr(manifest, name)]
    try:
        text = tomli_w.dumps(plain)
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"{path}: config holds what TOML cannot: {error}") from error
    write_text(path, text)


def record_file(directory: Path, path: str) -> FileRecord:
    """The record of a file as it is now, for the manifest of a new artifact."""
    file = artifact_file(directory, path)
    return FileRecord(path, file.stat().st_size, sha256_of(file))


def artifact_file(directory: Path, path: str) -> Path:
    """Where a listed file lies. Raises ArtifactError: it is missing or not inside the folder."""
    if fault := _path_fault(path):
        raise ArtifactError(f"{directory}: {path!r} {fault}; {_AGAIN}")
    file = directory / path
    if not file.is_file():
        raise ArtifactError(f"{file} is missing; {_AGAIN}")
    if not file.resolve().is_relative_to(directory.resolve()):
        raise ArtifactError(f"{file} is a link out of the artifact; put the file itself there")
    return file


def verify(directory: Path, manifest: Manifest) -> None:
    """Compare each listed file with its size and hash. Raises ArtifactError for the first fault."""
    for record in manifest.files:
        file = artifact_file(directory, record.path)
        size_bytes = file.stat().st_size
        if size_bytes != record.size_bytes:
            raise ArtifactError(
                f"{file} has {size_bytes} bytes, the manifest says {record.size_bytes}; {_AGAIN}"
            )
        sha256 = sha256_of(file)
        if sha256 != record.sha256:
            raise ArtifactError(
                f"{file} is damaged: its sha256 is {sha256[:12]}..., the manifest says "
                f"{record.sha256[:12]}...; {_AGAIN}"
            )


def _check(manifest: Manifest, where: Path) -> None:
    """Refuse a manifest whose parts do not agree."""
    if not manifest.kind:
        raise ArtifactError(f"{where}: kind is empty; {_AGAIN}")
    paths = [record.path for record in manifest.files]
    for path in paths:
        if fault := _path_fault(path):
            raise ArtifactError(f"{where}: the file {path!r} {fault}; {_AGAIN}")
    _check_distinct(paths, "file", where)
    hashes = [record.sha256 for record in manifest.files]
    for sha256 in hashes + [source.sha256 for source in manifest.sources]:
        if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
            raise ArtifactError(f"{where}: {sha256!r} is no sha256; {_AGAIN}")
    _check_distinct([graph.name for graph in manifest.graphs], "graph", where)
    for graph in manifest.graphs:
        if graph.file not in paths:
            raise ArtifactError(
                f"{where}: graph {graph.name} is in {graph.file!r}, which is not among the files"
            )
        _check_states(graph, where)


def _check_states(graph: GraphSpec, where: Path) -> None:
    at = f"{where}: graph {graph.name}"
    inputs = {tensor.name: tensor for tensor in graph.inputs}
    outputs = {tensor.name: tensor for tensor in graph.outputs}
    _check_distinct([tensor.name for tensor in graph.inputs], f"input of {graph.name}", where)
    _check_distinct([tensor.name for tensor in graph.outputs], f"output of {graph.name}", where)
    _check_distinct([pair.input for pair in graph.states], f"state of {graph.name}", where)
    for pair in graph.states:
        if pair.input not in inputs or pair.output not in outputs:
            raise ArtifactError(f"{at}: state {pair.input} <- {pair.output} is not in its tensors")
        before, after = inputs[pair.input], outputs[pair.output]
        same = before.dtype == after.dtype and (pair.kind == "kv" or before.shape == after.shape)
        if not same:
            raise ArtifactError(
                f"{at}: state {pair.input} is {before.dtype} {list(before.shape)}, "
                f"{pair.output} is {after.dtype} {list(after.shape)}"
            )


def _check_distinct(names: list[str], what: str, where: Path) -> None:
    twice = [name for name, n_times in Counter(names).items() if n_times > 1]
    if twice:
        raise ArtifactError(f"{where}: {what} {min(twice)!r} is listed twice; {_AGAIN}")


def _path_fault(path: str) -> str | None:
    """Why a path may not stand in a manifest; None if it may."""
    parts = PurePosixPath(path).parts
    if not path or path.startswith("/") or "\\" in path or ":" in path:
        return "is not a plain relative path"
    if ".." in parts:
        return "leads out of the folder"
    if path != "/".join(parts) or "\0" in path:
        return "is not a plain relative path"
    return "is the manifest itself" if path == FILE_NAME else None
