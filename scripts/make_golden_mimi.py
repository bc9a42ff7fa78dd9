"""Make tests/golden/mimi: a very small codec as an artifact, and what two other codecs say of it.

codes and wave are the official streaming model's; hub_codes and hub_wave are transformers' model's,
for the frames before the attention ring is full. Run it again only when the artifact's format
changes; it needs torch, moshi and transformers:
    python scripts/make_golden_mimi.py
"""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from export.checkpoint import read_checkpoint, weight_shapes  # noqa: E402
from export.mimi import export_mimi  # noqa: E402
from export.mimi_config import MimiConfig  # noqa: E402
from runtime.models.mimi_probe import probe_sound  # noqa: E402
from runtime.models.state_file import write_arrays  # noqa: E402
from tests.export.mimi_hub import hub_model, hub_run  # noqa: E402
from tests.export.mimi_models import write_config  # noqa: E402
from tests.export.mimi_oracle import official_mimi, official_table, published_state  # noqa: E402

CONFIG = MimiConfig(
    n_filters=4,
    dimension=16,
    ratios=(32, 30),
    n_heads=2,
    n_layers=1,
    feedforward=32,
    context=12,
    codebook_dim=8,
    n_codebooks=4,
    bins=32,
)
N_FRAMES, N_HUB_FRAMES = 20, 6  # the ring of 12 positions wraps after 6


def main() -> None:
    """Write the folder anew."""
    from safetensors.torch import save_file

    target = ROOT / "tests" / "golden" / "mimi"
    official = official_mimi(official_table(CONFIG), seed=11, n_codebooks=4)
    pcm = np.round(probe_sound(N_FRAMES, seed=4) * 32767).astype(np.int16)
    codes, wave = _run(official, (pcm / 32768).astype(np.float32))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "golden.safetensors"
        save_file(published_state(official), checkpoint)
        weights = read_checkpoint(checkpoint, CONFIG)
        tensors = {name: weights[name] for name in weight_shapes(CONFIG)}
        model = hub_model(tensors, CONFIG)
        head = (pcm[:N_HUB_FRAMES] / 32768).astype(np.float32)
        hub_codes, hub_wave = hub_run(model, head, n_codebooks=4)
        config = write_config(Path(folder) / "golden.json", CONFIG)
        shutil.rmtree(target, ignore_errors=True)
        export_mimi(checkpoint, target, config_file=config, n_codebooks=4)
    golden = {"pcm": pcm, "codes": codes, "wave": wave}
    golden |= {"hub_codes": hub_codes, "hub_wave": hub_wave}
    write_arrays(target.with_name("mimi_golden.safetensors"), "golden", _made_with(), golden)
    print(f"{target}: {[len(set(codes[:, k])) for k in range(4)]} different codes")


def _made_with() -> str:
    names = ("torch", "moshi", "transformers")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def _run(official: Any, pcm: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """Codes and decoded sound of the streaming official model, a frame at a time."""
    import torch

    codes, wave = [], []
    with torch.no_grad(), official.streaming(1):
        for frame in pcm:
            found = official.encode(torch.from_numpy(frame)[None, None])
            codes.append(found[0, :, 0].numpy())
            wave.append(official.decode(found)[0, 0].numpy())
    return np.array(codes), np.array(wave, np.float32)


if __name__ == "__main__":
    main()
