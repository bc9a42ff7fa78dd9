"""The work of `edge export moshi`: a checkpoint becomes an artifact, tensor by tensor.

Files are written one after the other into a hidden folder beside the target; a run that was
interrupted goes on with the first file that is not whole. The target appears in one move.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge.errors import ConfigError, UsageError
from edge.hashing import sha256_of
from edge.manifest import (
    GraphSpec,
    Manifest,
    SourceRecord,
    TensorSpec,
    record_file,
    write_manifest,
)
from edge.safetensors import FLOATS, from_float32
from export.depth_net import export_depth, normed_table
from export.gguf import write_gguf
from export.moshi_checkpoint import MoshiCheckpoint
from export.moshi_config import MoshiConfig, read_config
from export.temporal_gguf import hidden_width, temporal_metadata, temporal_tensors
from runtime.models.multistream.artifact import KIND, needed_files
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

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]  # what is written, bytes done, bytes in all

_EOS_ROW, _PADDING_ROW = 2, 3  # of the text table; Hibiki's early EOS stands for padding


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to convert. keep_user_slices: also keep a PersonaPlex's guesses at the user."""

    checkpoint: Path
    config: Path | None = None
    tokenizer: Path | None = None
    lora: Path | None = None
    keep_user_slices: bool = False


def export_moshi(options: ExportOptions, out: Path, on_progress: Progress | None = None) -> Path:
    """Write the artifact; a second call after an interrupt resumes. Returns its folder.

    Raises ModelMissingError, ArtifactError, ConfigError, ShapeError, UsageError; nothing then
    stands at `out`.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: exists already; choose another --out or remove it")
    raw = read_config(options.config) if options.config else {}
    checkpoint = MoshiCheckpoint(options.checkpoint, raw, lora=options.lora)
    tokenizer_hash = check_tokenizer(options.tokenizer, checkpoint.config)
    source = source_fingerprint(checkpoint, options)
    folder = out.with_name(f".{out.name}.part")
    _prepare(folder, source)
    spec = make_spec(checkpoint, options, tokenizer_hash)
    report = _Counter(_total_bytes(checkpoint), on_progress)
    steps: dict[str, Callable[[Path], None]] = {
        TEXT_TABLE_FILE: lambda path: _write_text_table(checkpoint, path),
        AUDIO_TABLE_FILE: lambda path: _write_audio_tables(checkpoint, path),
    }
    if spec.depth_steps:
        steps[DEPTH_FILE] = lambda path: export_depth(checkpoint, path, n_steps=spec.depth_steps)
    if spec.n_extra_heads:
        steps[EXTRA_HEADS_FILE] = lambda path: _write_extra_heads(checkpoint, path)
    if spec.conditions:
        steps[CONDITIONS_FILE] = lambda path: _write_conditions(checkpoint, path)
    if options.tokenizer:
        tokenizer = options.tokenizer
        steps[TOKENIZER_FILE] = lambda path: _copy(tokenizer, path)
    steps[TEMPORAL_FILE] = lambda path: _write_temporal(checkpoint, path, source, report)
    for name, write in steps.items():
        _once(folder, name, write)
        report.add(name, 0)
    _write_manifest(folder, spec, options)
    _publish(folder, out)
    return out


def make_spec(
    checkpoint: MoshiCheckpoint, options: ExportOptions, tokenizer_hash: str
) -> MoshiSpec:
    """What the runtime has to know, from the config and the tensors."""
    config = checkpoint.config
    defaults = {
        "temp": "temperature",
        "top_k": "top_k",
        "temp_text": "text_temperature",
        "top_k_text": "text_top_k",
        "cfg_coef": "guidance",
    }
    generation: dict[str, Any] = {
        ours: float(config.generation[theirs])
        if ours not in ("top_k", "text_top_k")
        else int(config.generation[theirs])
        for theirs, ours in defaults.items()
        if theirs in config.generation
    }
    if config.generation.get("use_sampling") is False:
        generation |= {"top_k": 1, "text_top_k": 1}
    return MoshiSpec(
        model_type=config.model_type,
        dim=config.dim,
        n_layers=config.n_layers,
        context=config.context,
        delays=config.delays,
        n_own=config.n_own,
        depth_steps=config.dep_q if options.keep_user_slices else min(config.dep_q, config.n_own),
        card=config.card,
        text_card=config.text_card,
        text_card_out=config.text_card_out,
        text_padding_id=config.text_padding_id,
        text_end_padding_id=config.text_end_padding_id,
        n_extra_heads=config.n_extra_heads,
        extra_head_dim=config.extra_head_dim,
        table_dtype=checkpoint.dtype("text_emb.weight"),
        float_kv=checkpoint.dtype("text_linear.weight") == "F32",
        conditions={cond.name: (*cond.values, "") for cond in config.conditioners},
        tokenizer_sha256=tokenizer_hash,
        **generation,
    )


def check_tokenizer(path: Path | None, config: MoshiConfig) -> str:
    """The hash of a SentencePiece model of the right size, "" for none.

    Raises ConfigError where it is none or has another number of pieces than the model.
    """
    if path is None:
        return ""
    import sentencepiece

    try:
        n_pieces = sentencepiece.SentencePieceProcessor(str(path)).get_piece_size()
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"{path}: not a SentencePiece model; want the tokenizer file") from error
    if n_pieces != config.text_card:
        raise ConfigError(
            f"{path}: a tokenizer of {n_pieces} pieces for a model of {config.text_card} text "
            "tokens; it belongs to another model"
        )
    return sha256_of(path)


def source_fingerprint(checkpoint: MoshiCheckpoint, options: ExportOptions) -> str:
    """Tells one export's input from another's without reading gigabytes: headers, sizes, times."""
    digest = hashlib.sha256()
    for path in (options.checkpoint, options.config, options.tokenizer, options.lora):
        if path is not None:
            stat = path.stat()
            digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    digest.update(f"{options.keep_user_slices} {checkpoint.config}".encode())
    return digest.hexdigest()


class _Counter:
    """Adds up what is written and passes it on."""

    def __init__(self, total_bytes: int, on_progress: Progress | None) -> None:
        self._total, self._done, self._on_progress = total_bytes, 0, on_progress

    def add(self, name: str, n_bytes: int) -> None:
        self._done += n_bytes
        if self._on_progress is not None:
            self._on_progress(name, min(self._done, self._total), self._total)


def _total_bytes(checkpoint: MoshiCheckpoint) -> int:
    return sum(tensor.n_bytes for tensor in temporal_tensors(checkpoint))


def _prepare(folder: Path, source: str) -> None:
    """Keep what an interrupted run of the same source left, clear anything else away."""
    mark = folder / "source"
    if folder.exists() and (not mark.is_file() or mark.read_text("utf-8") != source):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(source, "utf-8")


def _once(folder: Path, name: str, write: Callable[[Path], None]) -> None:
    """Write a file unless a run before has finished it; a mark beside it tells."""
    mark = folder / f"{name}.whole"
    if mark.is_file():
        return
    path = folder / name
    write(path)
    for file in (path, folder / f"{name}.data"):
        if file.is_file():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
    mark.touch()


def _write_temporal(checkpoint: MoshiCheckpoint, path: Path, source: str, report: _Counter) -> None:
    matrices = checkpoint.dtype("text_linear.weight")
    write_gguf(
        path,
        temporal_metadata(checkpoint.config, hidden_width(checkpoint), matrices),
        list(temporal_tensors(checkpoint)),
        source=source,
        on_tensor=report.add,
    )


def _write_text_table(checkpoint: MoshiCheckpoint, path: Path) -> None:
    table = _table(checkpoint, "text_emb", checkpoint.dtype("text_emb.weight"))
    if checkpoint.config.model_type == "hibiki":
        table = table.copy()
        table[_EOS_ROW] = table[_PADDING_ROW]
    with path.open("wb") as file:
        np.save(file, table, allow_pickle=False)


def _write_audio_tables(checkpoint: MoshiCheckpoint, path: Path) -> None:
    """All audio tables as one array (n_q, card + 1, dim), written one at a time."""
    config, dtype = checkpoint.config, checkpoint.dtype("text_emb.weight")
    shape = (config.n_q, config.card + 1, config.dim)
    with path.open("wb") as file:
        _npy_header(file, FLOATS[dtype], shape)
        for i in range(config.n_q):
            file.write(np.ascontiguousarray(_table(checkpoint, f"emb.{i}", dtype)).data.cast("B"))


def _table(checkpoint: MoshiCheckpoint, name: str, dtype: str) -> NDArray[Any]:
    """An embedding table in the type that all of them are stored in."""
    if not checkpoint.config.norm_emb and checkpoint.dtype(f"{name}.weight") == dtype:
        return checkpoint.read(f"{name}.weight").array
    return from_float32(normed_table(checkpoint, name), dtype)


def _npy_header(file: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(
        file, {"descr": dtype.str, "fortran_order": False, "shape": shape}
    )


def _write_extra_heads(checkpoint: MoshiCheckpoint, path: Path) -> None:
    heads = [
        checkpoint.read(f"extra_heads.{i}.weight").float32()
        for i in range(checkpoint.config.n_extra_heads)
    ]
    with path.open("wb") as file:
        np.save(file, np.stack(heads), allow_pickle=False)


def _write_conditions(checkpoint: MoshiCheckpoint, path: Path) -> None:
    """For each conditioner a row for each value, then one for none given; float32."""
    rows = []
    for cond in checkpoint.config.conditioners:
        prefix = f"condition_provider.conditioners.{cond.name}"
        embed = checkpoint.read(f"{prefix}.embed.weight").float32()
        project = checkpoint.read(f"{prefix}.output_proj.weight").float32()
        rows.append(embed[: len(cond.values)] @ project.T)
        none = np.zeros((1, checkpoint.config.dim), np.float32)
        if cond.learn_padding:
            none += checkpoint.read(f"{prefix}.learnt_padding").float32()[0]
        rows.append(none)
    with path.open("wb") as file:
        np.save(file, np.concatenate(rows).astype(np.float32), allow_pickle=False)


def _copy(source: Path, path: Path) -> None:
    shutil.copyfile(source, path)


def _write_manifest(folder: Path, spec: MoshiSpec, options: ExportOptions) -> None:
    """List what was written, and from what."""
    names = needed_files(spec)
    graphs = []
    if spec.depth_steps:
        names.append(f"{DEPTH_FILE}.data")
        graphs.append(_depth_graph(spec))
    inputs = [options.checkpoint, options.config, options.lora]
    write_manifest(
        folder,
        Manifest(
            kind=KIND,
            files=tuple(record_file(folder, name) for name in sorted(names)),
            config=spec.as_table(),
            graphs=tuple(graphs),
            sources=tuple(SourceRecord(path.name, sha256_of(path)) for path in inputs if path),
            tools=tool_versions(),
        ),
    )


def _depth_graph(spec: MoshiSpec) -> GraphSpec:
    n, card = spec.depth_steps, spec.card
    return GraphSpec(
        name="depth",
        file=DEPTH_FILE,
        inputs=(
            TensorSpec("hidden", "float32", ("rows", spec.dim)),
            TensorSpec("text_token", "int64", (1,)),
            TensorSpec("noise", "float32", (n, card)),
            TensorSpec("forced", "int64", (n,)),
            TensorSpec("top_k", "int64", (1,)),
            TensorSpec("inverse_temperature", "float32", (1,)),
            TensorSpec("guidance", "float32", (1,)),
        ),
        outputs=(TensorSpec("codes", "int64", (n,)), TensorSpec("logits", "float32", (n, card))),
    )


def tool_versions() -> dict[str, str]:
    """Versions of what takes part in an export."""
    names = ("edgevoice", "numpy", "onnx")
    return {name: importlib.metadata.version(name) for name in names}


def _publish(folder: Path, out: Path) -> None:
    """Take the marks away and give the folder its name."""
    for mark in folder.glob("*.whole"):
        mark.unlink()
    (folder / "source").unlink()
    if out.exists():
        out.rmdir()
    folder.replace(out)
