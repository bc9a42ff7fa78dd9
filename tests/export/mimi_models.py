"""Small codecs with random weights, and artifacts of them, for tests of several packages."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path

from export.mimi import export_mimi
from export.mimi_config import MimiConfig
from export.mimi_random import write_random_checkpoint
from tests.export.mimi_oracle import official_table

# Two stages and one layer: the fewest nodes, so that an export takes seconds.
TINY = MimiConfig(
    n_filters=16,
    dimension=64,
    ratios=(32, 30),
    n_heads=2,
    n_layers=1,
    feedforward=128,
    context=12,
    codebook_dim=64,
    n_codebooks=5,
    bins=64,
)


def write_config(path: Path, config: MimiConfig) -> Path:
    """Save a config in the official layout."""
    path.write_text(json.dumps(official_table(config)), encoding="utf-8")
    return path


@functools.cache
def tiny_artifact() -> Path:
    """A float artifact of TINY, exported once per process. Read it only."""
    home = Path(tempfile.mkdtemp(prefix="mimi-"))
    write_random_checkpoint(home / "tiny.safetensors", TINY, seed=3)
    config = write_config(home / "tiny.json", TINY)
    export_mimi(home / "tiny.safetensors", home / "float", config_file=config, n_codebooks=5)
    return home / "float"
