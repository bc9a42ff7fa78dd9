"""Opening a multistream artifact: manifest read, every listed file checked, config in our words."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from edge.errors import ArtifactError
from edge.manifest import Manifest, read_manifest, verify
from runtime.models.multistream.spec import (
    AUDIO_TABLE_FILE,
    CONDITIONS_FILE,
    DEPTH_FILE,
    EXTRA_HEADS_FILE,
    TEMPORAL_FILE,
    TEXT_TABLE_FILE,
    TOKENIZER_FILE,
    MoshiSpec,
)

KIND = "moshi"


@dataclass(frozen=True, slots=True)
class MoshiArtifact:
    """fingerprint: 64 hex digits that change whenever a file or a setting of the artifact does."""

    folder: Path
    spec: MoshiSpec
    manifest: Manifest
    fingerprint: str


def open_artifact(folder: Path) -> MoshiArtifact:
    """Read the manifest and compare every file with its hash. Raises ArtifactError."""
    manifest = read_manifest(folder)
    if manifest.kind != KIND:
        raise ArtifactError(
            f"{folder}: an artifact of kind {manifest.kind}, want {KIND}; "
            "make one with `edge export moshi`"
        )
    spec = MoshiSpec.from_table(manifest.config)
    listed = {record.path for record in manifest.files}
    missing = [name for name in needed_files(spec) if name not in listed]
    if missing:
        raise ArtifactError(f"{folder}: the manifest lists no {missing[0]}; export it again")
    verify(folder, manifest)
    digest = hashlib.sha256(repr(sorted(spec.as_table().items())).encode())
    for record in sorted(manifest.files, key=lambda one: one.path):
        digest.update(f"{record.path} {record.sha256}\n".encode())
    return MoshiArtifact(folder, spec, manifest, digest.hexdigest())


def needed_files(spec: MoshiSpec) -> list[str]:
    """The files that a model of this spec cannot do without."""
    names = [TEMPORAL_FILE, TEXT_TABLE_FILE, AUDIO_TABLE_FILE]
    names += [DEPTH_FILE] if spec.depth_steps else []
    names += [EXTRA_HEADS_FILE] if spec.n_extra_heads else []
    names += [CONDITIONS_FILE] if spec.conditions else []
    names += [TOKENIZER_FILE] if spec.tokenizer_sha256 else []
    return names
