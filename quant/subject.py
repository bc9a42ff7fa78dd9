"""What is to be quantized or measured, of whatever kind: its parts, its weights, its lineage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from edge.errors import ArtifactError, UsageError
from edge.hashing import sha256_of
from edge.manifest import FILE_NAME, Manifest, read_manifest, verify
from export.gguf_read import StoredTensor, read_gguf
from quant.onnx_products import GraphEditor
from quant.onnx_weights import Weight, weights_of
from runtime.backends.ggml import NAMES
from runtime.models.multistream.spec import DEPTH_FILE, TEMPORAL_FILE
from runtime.models.whisper import KIND as WHISPER

Role = Literal["tts", "asr", "llm", "codec"]
Engine = Literal["graph", "blocks", "gguf"]

ROLES: tuple[Role, ...] = ("tts", "asr", "llm", "codec")
CALIBRATION = "calibration/"  # sources that no weight comes from
FOREIGN = "foreign-"  # kind of an artifact made of another maker's model, then its role


@dataclass(frozen=True, slots=True)
class Part:
    """One file with weights. name: "" where it is the only one.

    engine: who rewrites it. "blocks" is for graphs too large to be held in memory.
    """

    name: str
    path: Path
    engine: Engine


@dataclass(frozen=True, slots=True)
class Item:
    """A weight. label: what recipes match. stored: how it is stored now."""

    label: str
    part: Part
    shape: tuple[int, ...]
    stored: str
    weight: Weight | None = None
    tensor: StoredTensor | None = None

    @property
    def name(self) -> str:
        """What it is called in its file."""
        found = self.weight or self.tensor
        assert found is not None
        return found.name

    @property
    def n_values(self) -> int:
        """Numbers in it."""
        n = 1
        for size in self.shape:
            n *= size
        return n


@dataclass(frozen=True)
class Subject:
    """An opened model. section: of recipes. manifest: None for a plain file of another maker."""

    path: Path
    section: str
    parts: tuple[Part, ...]
    manifest: Manifest | None
    role: Role | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """Every weight that a recipe may change."""
        return tuple(item for part in self.parts for item in _items(part))

    @property
    def recipe(self) -> str:
        """How it was made smaller, "float" where it was not."""
        return self.manifest.recipe.name if self.manifest else "float"

    @property
    def size_bytes(self) -> int:
        """Bytes of all of its files."""
        if self.manifest:
            return sum(record.size_bytes for record in self.manifest.files)
        return sum(part.path.stat().st_size for part in self.parts)

    @cached_property
    def lineage(self) -> frozenset[str]:
        """Hashes of what it was made from, and of its own files."""
        if self.manifest is None:
            return frozenset(sha256_of(part.path) for part in self.parts)
        own = {record.sha256 for record in self.manifest.files}
        made_from = {
            source.sha256
            for source in self.manifest.sources
            if not source.file.endswith(".toml") and not source.file.startswith(CALIBRATION)
        }
        return frozenset(own | made_from)

    @cached_property
    def fingerprint(self) -> str:
        """A hash that changes when any of its files does."""
        import hashlib

        if self.manifest:
            found = sorted((r.path, r.sha256) for r in self.manifest.files)
        else:
            found = sorted((part.path.name, sha256_of(part.path)) for part in self.parts)
        return hashlib.sha256(repr(found).encode()).hexdigest()


def open_subject(path: Path, *, role: str | None = None, checked: bool = True) -> Subject:
    """Open an artifact's folder, or an ONNX or GGUF file of another maker with its role.

    checked: compare every file with its hash. Raises UsageError, ArtifactError.
    """
    if path.is_file() and path.name != FILE_NAME:
        return _foreign_file(path, role)
    folder = path.parent if path.name == FILE_NAME else path
    manifest = read_manifest(folder)
    if checked:
        verify(folder, manifest)
    if manifest.kind == "mimi":
        parts = [Part(graph.name, folder / graph.file, "graph") for graph in manifest.graphs]
        return Subject(folder, "mimi", tuple(parts), manifest, "codec")
    if manifest.kind == "moshi":
        listed = {record.path for record in manifest.files}
        parts = [Part("temporal", folder / TEMPORAL_FILE, "gguf")]
        if DEPTH_FILE in listed:
            parts.append(Part("depth", folder / DEPTH_FILE, "blocks"))
        return Subject(folder, "moshi", tuple(parts), manifest)
    if manifest.kind == WHISPER:
        parts = [Part(graph.name, folder / graph.file, "graph") for graph in manifest.graphs]
        return Subject(folder, "asr", tuple(parts), manifest, "asr")
    if manifest.kind.startswith(FOREIGN):
        found = _role(manifest.kind.removeprefix(FOREIGN))
        files = [r.path for r in manifest.files if r.path.endswith((".onnx", ".gguf"))]
        parts = [_part(folder / name, name.rpartition(".")[0]) for name in files]
        if len(parts) == 1:
            parts = [Part("", parts[0].path, parts[0].engine)]
        return Subject(folder, "llm" if _is_gguf(parts) else found, tuple(parts), manifest, found)
    raise ArtifactError(
        f"{folder}: an artifact of kind {manifest.kind!r}; quantizing and measuring know mimi, "
        f"moshi and {FOREIGN}{{{','.join(ROLES)}}}"
    )


def check_lineage(reference: Subject, candidate: Subject) -> None:
    """Refuse a candidate that was made from something else. Raises UsageError."""
    if reference.section != candidate.section:
        raise UsageError(
            f"{candidate.path} is a {candidate.section} model and {reference.path} a "
            f"{reference.section} one; compare a model with what it was made from"
        )
    if not reference.lineage & candidate.lineage:
        raise UsageError(
            f"{candidate.path} was not made from {reference.path}: they have no source in common; "
            "give the float model that it was quantized from"
        )


def _foreign_file(path: Path, role: str | None) -> Subject:
    if path.suffix not in (".onnx", ".gguf"):
        raise UsageError(f"{path}: want an artifact's folder, an .onnx or a .gguf file")
    if role is None:
        raise UsageError(f"{path.name}: say what it does with --role {'|'.join(ROLES)}")
    found = _role(role)
    part = _part(path, "")
    return Subject(path, "llm" if part.engine == "gguf" else found, (part,), None, found)


def _role(name: str) -> Role:
    for role in ROLES:
        if role == name:
            return role
    raise UsageError(f"unknown role {name!r}; known are {', '.join(ROLES)}")


def _part(path: Path, name: str) -> Part:
    return Part(name, path, "gguf" if path.suffix == ".gguf" else "graph")


def _is_gguf(parts: list[Part]) -> bool:
    return any(part.engine == "gguf" for part in parts)


def _items(part: Part) -> list[Item]:
    prefix = f"{part.name}:" if part.name else ""
    if part.engine == "gguf":
        return [
            Item(
                prefix + t.name,
                part,
                t.shape,
                NAMES.get(t.ggml_type, f"ggml type {t.ggml_type}"),
                tensor=t,
            )
            for t in read_gguf(part.path).tensors
            if len(t.shape) > 1
        ]
    editor = load_editor(part.path, whole=part.engine == "graph")
    return [Item(prefix + w.label, part, w.shape, "float", weight=w) for w in weights_of(editor)]


def load_editor(path: Path, *, whole: bool = True) -> GraphEditor:
    """A graph ready to be edited. whole: with data that lies beside it. Raises ArtifactError."""
    import onnx

    try:
        return GraphEditor(onnx.load(str(path), load_external_data=whole))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read as an ONNX graph ({error})") from error
    except Exception as error:  # protobuf raises types of its own
        raise ArtifactError(f"{path}: is no ONNX graph; export or fetch it again") from error
