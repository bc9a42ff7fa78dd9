"""Whether an artifact computes what its torch nets compute, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from edge.errors import ArtifactError
from edge.manifest import GraphSpec
from export.mimi_net import MimiDecoder, MimiEncoder
from runtime.models.mimi import DECODER, ENCODER, MimiCodec
from runtime.models.mimi_probe import probe_sound
from runtime.models.mimi_state import RingShape, SideState

MAX_WAVE_ERROR = 1e-5
# Two sums in another order may choose differently between two entries equally near.
MIN_EQUAL_CODES = 0.999


@dataclass(frozen=True, slots=True)
class Parity:
    """What a comparison found. equal: share of equal codes per level, coarsest first.

    max_error: largest difference of a decoded sample, both sides decoding the same codes.
    rms: of the decoded sound, to judge the error by.
    """

    n_frames: int
    equal: tuple[float, ...]
    max_error: float
    rms: float
    faults: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether the artifact may be used."""
        return not self.faults


class TorchStream:
    """A torch net driven by the same host state as its graph."""

    def __init__(self, net: MimiEncoder | MimiDecoder, ring: RingShape, graph: GraphSpec) -> None:
        self._net = net.eval()
        self._state = SideState(ring, graph)

    def step(self, name: str, value: NDArray[np.generic]) -> NDArray[np.generic]:
        """Feed one frame to the input of that name; returns a copy of the first output."""
        state = self._state
        state.buffers[name][:] = value
        with torch.no_grad():
            found = self._net(*map(torch.from_numpy, state.inputs[state.parity].values()))
        outputs = state.outputs[state.parity]
        for buffer, tensor in zip(outputs.values(), found, strict=True):
            buffer[...] = tensor.numpy()
        first: NDArray[np.generic] = next(iter(outputs.values())).copy()
        state.advance()
        return first


def compare_mimi(
    codec: MimiCodec,
    encoder: MimiEncoder,
    decoder: MimiDecoder,
    *,
    on_frame: Callable[[int, int], None] | None = None,
) -> Parity:
    """Run an artifact and its nets side by side, well past the wrap of the attention ring.

    on_frame is told how many frames of how many are done.
    """
    config = encoder.config
    n_frames = config.context // config.n_positions + 16
    graph_of = codec.manifest.graph
    encoding = TorchStream(encoder, codec.ring, graph_of(ENCODER))
    decoding = TorchStream(decoder, codec.ring, graph_of(DECODER))
    state = codec.start()
    equal = np.zeros(codec.n_codebooks)
    max_error, energy = 0.0, 0.0
    with _one_thread():
        for done, pcm in enumerate(probe_sound(n_frames, seed=0), 1):
            want_codes = encoding.step("pcm", pcm).astype(np.int64)
            state, codes = codec.encode(state, pcm)
            equal += codes == want_codes
            want = decoding.step("codes", want_codes).astype(np.float32)
            state, heard = codec.decode(state, want_codes)
            max_error = max(max_error, float(np.abs(heard - want).max()))
            energy += float(np.mean(np.square(want, dtype=np.float64)))
            if on_frame is not None:
                on_frame(done, n_frames)
    shares = tuple(float(share) for share in equal / n_frames)
    return Parity(
        n_frames, shares, max_error, (energy / n_frames) ** 0.5, _faults(shares, max_error)
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread: a frame's products are so small that more only wait for each other."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def require(parity: Parity, name: str) -> None:
    """Raise ArtifactError where a comparison failed."""
    if parity.faults:
        raise ArtifactError(
            f"{name} does not compute what the checkpoint computes: {'; '.join(parity.faults)}; "
            "nothing was written"
        )


def _faults(equal: tuple[float, ...], max_error: float) -> tuple[str, ...]:
    """What is worse than allowed, in words."""
    faults = []
    if not np.mean(equal) >= MIN_EQUAL_CODES:
        faults.append(f"{np.mean(equal):.2%} of codes equal, want {MIN_EQUAL_CODES:.2%}")
    if not max_error <= MAX_WAVE_ERROR:
        faults.append(f"wave error {max_error:.1e}, want {MAX_WAVE_ERROR:.0e}")
    return tuple(faults)
