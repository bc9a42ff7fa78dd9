"""`edge quantize run`: a model and a recipe into a smaller artifact, whole or not at all."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import ArtifactError, UsageError
from edge.hashing import sha256_of
from edge.manifest import (
    Manifest,
    RecipeRecord,
    SourceRecord,
    record_file,
    write_manifest,
)
from quant.calibration import read_calibration
from quant.gguf import quantize_gguf
from quant.onnx_graph import rewrite
from quant.onnx_lift import is_dynamic, lift
from quant.onnx_matmul import quantize_matmuls
from quant.recipe import Recipe
from quant.resolve import Choice, Resolved, resolve
from quant.subject import CALIBRATION, FOREIGN, Part, Subject
from quant.workfolder import resumable_folder
from runtime.models.multistream.spec import MoshiSpec

Progress = Callable[[str, int, int], None]
Importance = Mapping[str, NDArray[np.float32]]
_SPEECH = f"{CALIBRATION}speech/"

_BLOCK_BITS = {"float": 0, "w8": 8, "w4": 4}


@dataclass(frozen=True, slots=True)
class Made:
    """What came out. tensors: weight -> what it became. fell_back: those not as first wished."""

    directory: Path
    recipe: str
    tensors: Mapping[str, str]
    fell_back: tuple[str, ...]
    size_bytes_before: int
    size_bytes: int


def quantize(
    subject: Subject,
    recipe: Recipe,
    out: Path,
    *,
    threads: int = 1,
    calibration: Path | None = None,
    companions: tuple[Path, ...] = (),
    on_progress: Progress = lambda *_: None,
) -> Made:
    """Write the artifact `out`: equal inputs give equal bytes, whatever the threads.

    calibration: how much each input of a weight matters, from `edge quantize calibrate`.
    companions: files of another maker's model that go along unchanged, a vocabulary for instance.
    Killed at any moment it leaves nothing at `out`, and goes on with the next call.
    Raises UsageError, ArtifactError.
    """
    _refuse_smaller(subject)
    resolved = resolve(recipe, subject)
    importance, used = _calibrated(subject, recipe, calibration)
    heard = {one.sha256 for one in used}
    key = f"{subject.fingerprint} {recipe.sha256} {used[0].sha256 if used else ''}"
    with resumable_folder(out, key) as folder:
        became: dict[str, str] = {}
        for part in subject.parts:
            choices = {
                choice.item.name: choice
                for choice in resolved.choices.values()
                if choice.item.part == part
            }
            prefix = f"{part.name}:" if part.name else ""
            weights = _of_part(part, choices, importance)
            made = _write_part(part, choices, folder, threads, weights, on_progress)
            became |= {prefix + name: what for name, what in made.items()}
        sources: tuple[SourceRecord, ...] = (
            SourceRecord(f"recipe {recipe.name}.toml", recipe.sha256), *used,
            *_clips({h: name for h, name in recipe.speech.items() if h not in heard}),
        )  # fmt: skip
        manifest = _manifest(subject, folder, resolved, became, sources, companions)
        write_manifest(folder, manifest)
        size = sum(record.size_bytes for record in manifest.files)
    fell_back = tuple(label for label, choice in resolved.choices.items() if choice.fell_back)
    return Made(out, recipe.name, became, fell_back, subject.size_bytes, size)


def _refuse_smaller(subject: Subject) -> None:
    if subject.recipe != "float":
        raise ArtifactError(
            f"{subject.path} is {subject.recipe} already; quantize the float artifact"
        )
    for part in subject.parts:
        if subject.manifest is None and part.engine == "graph" and is_dynamic(part.path):
            raise ArtifactError(
                f"{part.path.name} computes with integers already; write its float form first "
                f"with: edge quantize lift {part.path} --role {subject.role} --out DIR"
            )


def calibration_speech(subject: Subject) -> dict[str, str]:
    """Hash -> name of the clips that a model was calibrated with, or its recipe found on."""
    sources = subject.manifest.sources if subject.manifest else ()
    return {
        one.sha256: one.file.removeprefix(_SPEECH)
        for one in sources
        if one.file.startswith(_SPEECH)
    }


def _calibrated(
    subject: Subject, recipe: Recipe, path: Path | None
) -> tuple[Importance, tuple[SourceRecord, ...]]:
    """What a calibration says of a model's weights, and what the manifest is to say of it.

    Raises UsageError: the recipe wants one or none, or it is of another model.
    """
    if path is None:
        if recipe.calibration == "required":
            raise UsageError(
                f"recipe {recipe.name} wants a calibration; make one with `edge quantize calibrate`"
                " and give it with --calibration FILE"
            )
        return {}, ()
    if recipe.calibration == "none":
        raise UsageError(f'recipe {recipe.name} says calibration = "none"; leave it out')
    found = read_calibration(path)
    if found.model and found.model != subject.fingerprint:
        raise UsageError(
            f"{path} is of another model than {subject.path}; calibrate that one, or give the float"
            " artifact that this one is of"
        )
    importance = found.importance
    by_name = {item.name: item for item in subject.items}
    by_name |= {item.label: item for item in subject.items}
    if not set(importance) & set(by_name):
        raise UsageError(f"{path} knows no weight of {subject.path}; it is of another model")
    for label in set(importance) & set(by_name):
        item = by_name[label]
        n_inputs = item.shape[-1] if item.tensor else item.shape[0]
        matrix = item.tensor or (item.weight and item.weight.kind == "matmul")
        if matrix and len(importance[label]) != n_inputs:
            raise UsageError(
                f"{path}: {label} has {len(importance[label])} inputs there and {n_inputs} in the "
                "model; it is of another one"
            )
    return importance, (SourceRecord(f"{CALIBRATION}file", sha256_of(path)), *_clips(found.speech))


def _clips(speech: Mapping[str, str]) -> tuple[SourceRecord, ...]:
    return tuple(SourceRecord(f"{_SPEECH}{name}", sha256) for sha256, name in speech.items())


def _of_part(part: Part, choices: Mapping[str, Choice], importance: Importance) -> Importance:
    """Of one file's weights, by their names in it; llama.cpp's own files know no other names."""
    found = {}
    for name, choice in choices.items():
        labels = (choice.item.label, name) if part.engine == "gguf" else (choice.item.label,)
        values = next((importance[label] for label in labels if label in importance), None)
        if values is not None:
            found[name] = values
    return found


def _write_part(
    part: Part, choices: Mapping[str, Choice], folder: Path, threads: int, importance: Importance,
    on_progress: Progress,
) -> Mapping[str, str]:  # fmt: skip
    """One file of the model; returns what its weights have become."""
    target = folder / part.path.name
    stage = f"quantizing {part.path.name}"
    if part.engine == "gguf":
        n_done = 0

        def told(_name: str, _n_bytes: int) -> None:
            nonlocal n_done
            n_done += 1
            on_progress(stage, min(n_done, len(choices)), len(choices))

        if target.is_file():  # whole since an earlier call that was killed later on
            return {name: choice.precision for name, choice in choices.items()}
        return quantize_gguf(
            part.path,
            target,
            lambda name: choices[name].precision,
            importance=importance,
            threads=threads,
            on_tensor=told,
        )
    on_progress(stage, 0, 1)
    wanted = {name: choice.precision for name, choice in choices.items()}
    if part.engine == "blocks":
        found: Mapping[str, str] = quantize_matmuls(
            part.path, target, lambda name: _BLOCK_BITS[wanted.get(name, "float")],
            importance=importance,
        )  # fmt: skip
    else:
        found = rewrite(part.path, target, wanted, side=part.name, importance=importance)
    on_progress(stage, 1, 1)
    return found


def _manifest(
    subject: Subject,
    folder: Path,
    resolved: Resolved,
    became: Mapping[str, str],
    more_sources: Sequence[SourceRecord],
    companions: tuple[Path, ...],
) -> Manifest:
    record = RecipeRecord(resolved.recipe.name, dict(became))
    tools = {name: importlib.metadata.version(name) for name in ("edgevoice", "onnx", "numpy")}
    if subject.manifest is None:
        path = subject.parts[0].path
        for file in companions:
            shutil.copyfile(file, folder / file.name)
        names = [path.name, *(file.name for file in companions)]
        return Manifest(
            kind=f"{FOREIGN}{subject.role}",
            files=tuple(record_file(folder, name) for name in names),
            recipe=record,
            sources=(SourceRecord(path.name, sha256_of(path)), *more_sources),
            tools=tools,
        )
    for one in subject.manifest.files:
        target = folder / one.path
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(subject.path / one.path, target)
    config = subject.manifest.config
    if subject.section == "moshi" and resolved.recipe.name != "float":
        config = replace(MoshiSpec.from_table(config), float_kv=False).as_table()
    own = tuple(SourceRecord(one.path, one.sha256) for one in subject.manifest.files)
    return replace(
        subject.manifest,
        files=tuple(record_file(folder, one.path) for one in subject.manifest.files),
        config=config,
        recipe=record,
        sources=(*subject.manifest.sources, *own, *more_sources),
        tools={**subject.manifest.tools, **tools},
    )


def lift_model(subject: Subject, out: Path, companions: tuple[Path, ...] = ()) -> Made:
    """Write the float form of a model that computes with integers, as an artifact of its own."""
    if subject.manifest is not None or subject.parts[0].engine != "graph":
        raise UsageError(f"{subject.path}: only another maker's ONNX file can be lifted")
    path = subject.parts[0].path
    with resumable_folder(out, subject.fingerprint) as folder:
        n_lifted = lift(path, folder / path.name)
        if not n_lifted:
            raise UsageError(f"{path.name} computes with floats already; quantize it as it is")
        for file in companions:
            shutil.copyfile(file, folder / file.name)
        manifest = Manifest(
            kind=f"{FOREIGN}{subject.role}",
            files=tuple(record_file(folder, n) for n in (path.name, *(f.name for f in companions))),
            config={"lifted_from_bits": 8},
            sources=(SourceRecord(path.name, sha256_of(path)),),
            tools={"edgevoice": importlib.metadata.version("edgevoice")},
        )
        write_manifest(folder, manifest)
        size = sum(one.size_bytes for one in manifest.files)
    return Made(out, "float", {}, (), subject.size_bytes, size)
