"""A small world of models for tests: fake wheels, a lock that names what is in them, a store."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from apps.fetch import Stage
from edge.lock import Lock, LockEntry, LockFile, Part, PypiPartsSource, PypiSource, Role, Source
from edge.store import ModelStore

VOCAB = b"a\nb\nc\n"
WEIGHTS = bytes(range(256)) * 10_000  # more than two chunks of 1 MiB


def lock_file(path: str, data: bytes) -> LockFile:
    return LockFile(path, hashlib.sha256(data).hexdigest(), len(data))


def entry(
    name: str,
    files: Mapping[str, bytes],
    *sources: Source,
    starter: bool = True,
    role: Role = "asr",
) -> LockEntry:
    return LockEntry(
        name=name,
        role=role,
        format="onnx",
        precision="int8",
        licence="MIT",
        origin="somebody, somebody/model",
        language="en",
        starter=starter,
        revision="1",
        files=tuple(lock_file(path, data) for path, data in files.items()),
        sources=sources,
    )


def whole_model(name: str = "whole") -> LockEntry:
    """Two files in one wheel."""
    files = {"vocab.txt": VOCAB, "sub/weights.bin": WEIGHTS}
    return entry(name, files, PypiSource(tuple(files), "whole-pack", "1.0", "whole_pack/data/"))


def cut_model(name: str = "cut") -> LockEntry:
    """A small file in one wheel, a large one cut over two."""
    files = {"vocab.txt": VOCAB, "weights.bin": WEIGHTS}
    parts = tuple(Part(f"cut-{n}", "2.0", f"cut_{n}/part") for n in (1, 2))
    return entry(
        name,
        files,
        PypiSource(("vocab.txt",), "cut-2", "2.0", "cut_2/"),
        PypiPartsSource(("weights.bin",), parts),
        starter=False,
    )


def make_store(root: Path, *entries: LockEntry) -> ModelStore:
    return ModelStore(Lock(root / "models.lock", entries), root)


def make_wheel(folder: Path, name: str, version: str, members: Mapping[str, bytes]) -> Path:
    """A wheel that pip accepts; importing anything of it would fail."""
    package = name.replace("-", "_")
    info = f"{package}-{version}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{package}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{package}/__init__.py", "raise SystemExit('was run')\n")
        for member, data in members.items():
            archive.writestr(member, data)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def make_whole_wheel(folder: Path, weights: bytes = WEIGHTS) -> Path:
    members = {"whole_pack/data/vocab.txt": VOCAB, "whole_pack/data/sub/weights.bin": weights}
    return make_wheel(folder, "whole-pack", "1.0", members)


def make_cut_wheels(folder: Path) -> list[Path]:
    middle = len(WEIGHTS) // 3
    second = {"cut_2/part": WEIGHTS[middle:], "cut_2/vocab.txt": VOCAB}
    return [
        make_wheel(folder, "cut-1", "2.0", {"cut_1/part": WEIGHTS[:middle]}),
        make_wheel(folder, "cut-2", "2.0", second),
    ]


def placed(root: Path) -> dict[str, bytes]:
    """Every file in the models folder that is not unfinished work."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".partial" not in path.parts
    }


def unfinished(root: Path) -> list[str]:
    """What lies in the folder for unfinished work, but for its lock."""
    return sorted(path.name for path in (root / ".partial").glob("*") if path.name != "lock")


class Recorder:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, Stage, int, int | None]] = []
        self.outcomes: dict[str, str] = {}

    def at(self, name: str, stage: Stage, done_bytes: int, total_bytes: int | None) -> None:
        self.steps.append((name, stage, done_bytes, total_bytes))

    def finished(self, name: str, outcome: str) -> None:
        self.outcomes[name] = outcome

    def stages(self, name: str) -> Sequence[Stage]:
        return list(dict.fromkeys(stage for model, stage, _, _ in self.steps if model == name))
