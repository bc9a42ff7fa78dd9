"""From checkpoints to the artifact that the duplex engine opens: model, tokenizer, codec, card."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from edge.errors import UsageError
from export.mimi import export_mimi
from export.mini.checkpoints import load_run
from export.mini.codec_train import CodecRecipe, Trainee
from export.mini.codec_use import official_codec_config
from export.mini.lm_train import Listener, LmRecipe
from export.moshi import ExportOptions, export_moshi

CODEC_FOLDER = "mimi"


@dataclass(frozen=True, slots=True)
class Parts:
    """The checkpoints and the tokenizer that make one miniature."""

    codec: Path
    lm: Path
    pieces: Path


def write_official(parts: Parts, codec: CodecRecipe, lm: LmRecipe, folder: Path) -> None:
    """Write both checkpoints in the official layouts, with their configs and the tokenizer.

    The codec is float32; the model bfloat16, as the published ones are.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    trainee, listener = Trainee(codec), Listener(lm)
    load_run(parts.codec, trainee)
    load_run(parts.lm, listener)
    save_file(trainee.codec.official_weights(), folder / "codec.safetensors")
    (folder / "codec.json").write_text(json.dumps(official_codec_config(codec.sizes), indent=1))
    weights = {k: v.to(torch.bfloat16) for k, v in listener.lm.official_weights().items()}
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(lm.sizes.official_config(), indent=1))
    shutil.copyfile(parts.pieces, folder / "tokenizer.model")


def write_artifact(parts: Parts, codec: CodecRecipe, lm: LmRecipe, out: Path) -> Path:
    """Export a miniature through the same importers as the big models. Returns `out`.

    Raises UsageError where `out` holds something already, and what the exporters raise.
    """
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out}: exists already; choose another --out or remove it")
    with tempfile.TemporaryDirectory(prefix="edge-mini-") as name:
        folder = Path(name)
        write_official(parts, codec, lm, folder)
        export_moshi(
            ExportOptions(
                folder / "model.safetensors", folder / "config.json", folder / "tokenizer.model"
            ),
            out,
        )
        export_mimi(
            folder / "codec.safetensors",
            out / CODEC_FOLDER,
            config_file=folder / "codec.json",
            n_codebooks=codec.sizes.n_codebooks,
        )
    return out
