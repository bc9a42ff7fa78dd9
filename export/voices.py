"""Voices for models that are told how to sound: recordings or published files to safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edge.atomic import atomic_path
from edge.errors import UsageError
from runtime.models.mimi import MimiCodec
from runtime.models.multistream.artifact import open_artifact
from runtime.models.multistream.delays import UNGENERATED, Int64
from runtime.models.multistream.prompting import VoicePrompt, check_voice
from runtime.models.multistream.spec import MoshiSpec
from runtime.models.multistream.voices import encode_voice

_LARGEST_PT_BYTES = 256 << 20


def convert_voice(source: Path, model_dir: Path, out: Path) -> int:
    """Write a voice for the model of an artifact; the number of its frames.

    source: sound, encoded by the codec in the model's folder `mimi` or the one beside it; or a
    .pt file with `embeddings` and `cache`. Raises UsageError, ArtifactError.
    """
    spec = open_artifact(model_dir).spec
    if source.suffix == ".pt":
        voice = read_pt(source, spec)
    else:
        voice = encode_voice(source, spec.layout, codec_of(model_dir))
    check_voice(voice, spec.layout, spec.dim)
    write_voice(out, voice)
    part = voice.codes if voice.codes is not None else voice.embeddings
    return 0 if part is None else len(part)


def write_voice(path: Path, voice: VoicePrompt) -> None:
    """Write a voice as safetensors, all or nothing."""
    from safetensors.numpy import save_file

    arrays = {
        name: np.ascontiguousarray(array)
        for name, array in (
            ("codes", voice.codes),
            ("embeddings", voice.embeddings),
            ("columns", voice.columns),
        )
        if array is not None
    }
    with atomic_path(path) as part:
        save_file(arrays, part)


def read_pt(path: Path, spec: MoshiSpec) -> VoicePrompt:
    """A published .pt voice: recorded inputs, and the tokens that were on the delay lines.

    Only plain tensors are unpickled. Raises UsageError for anything else.
    """
    import pickle

    import torch

    if not path.is_file() or path.stat().st_size > _LARGEST_PT_BYTES:
        raise UsageError(f"{path}: no such voice file, or one too large to be a voice")
    try:
        stored: Any = torch.load(path, map_location="cpu", weights_only=True)
        embeddings = stored["embeddings"].to(torch.float32).reshape(-1, spec.dim).numpy()
        cache = stored["cache"].to(torch.int64)[0].numpy()
    except (RuntimeError, pickle.UnpicklingError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path}: not a voice of plain tensors (embeddings, cache) for a model {spec.dim} wide"
        ) from error
    return VoicePrompt(embeddings=embeddings, columns=columns_of(cache, len(embeddings), spec))


def columns_of(cache: Int64, n_positions: int, spec: MoshiSpec) -> Int64:
    """The two columns after n_positions in a ring cache int64 (n_streams, n_columns)."""
    layout = spec.layout
    if cache.ndim != 2 or cache.shape[0] != layout.n_streams:
        raise UsageError(f"the voice has a cache {cache.shape}, want {layout.n_streams} streams")
    n_columns = cache.shape[1]
    first = cache[:, n_positions % n_columns]
    second = cache[:, (n_positions + 1) % n_columns]
    delayed = np.array(layout.delays) > 0
    return np.stack([first, np.where(delayed, second, UNGENERATED)])


def codec_of(model_dir: Path) -> MimiCodec:
    """The codec in a model's folder or beside it. Raises UsageError."""
    places = (model_dir / "mimi", model_dir.parent / "mimi")
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise UsageError(f"{model_dir}: no codec at {places[0]}; export one there first")
    return MimiCodec(found)
