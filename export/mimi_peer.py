"""The official PyTorch codec as a stream, to measure beside ours where its package is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import EdgeError
from edge.frame import Pcm

Codes = NDArray[np.int64]

PEER_MISSING = (
    "this comparison needs the package {}; install it with: "
    "pip install --no-deps -r constraints/oracle.txt (`make test` does)"
)


def official_stream(
    checkpoint: Path, n_codebooks: int, threads: int
) -> tuple[Callable[[Pcm], Codes], Callable[[Codes], Pcm]]:
    """Functions that encode and decode the next frame of one stream.

    checkpoint: of the published sizes. threads: torch's, for the whole process. Raises
    EdgeError where its package is not installed.
    """
    try:
        import torch
        from moshi.models.loaders import get_mimi
    except ImportError as exc:
        raise EdgeError(PEER_MISSING.format("moshi")) from exc
    torch.set_num_threads(threads)
    peer = get_mimi(checkpoint, num_codebooks=n_codebooks).requires_grad_(requires_grad=False)
    peer.streaming_forever(1)

    def encode(pcm: Pcm) -> Codes:
        with torch.no_grad():
            codes: Codes = peer.encode(torch.from_numpy(pcm)[None, None])[0, :, 0].numpy()
            return codes

    def decode(codes: Codes) -> Pcm:
        with torch.no_grad():
            pcm: Pcm = peer.decode(torch.from_numpy(codes)[None, :, None])[0, 0].numpy()
            return pcm

    return encode, decode
