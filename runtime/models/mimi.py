"""Mimi, the streaming codec: 80 ms of sound to a handful of codes and back, frame by frame."""

from __future__ import annotations

import hashlib
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ArtifactError, ShapeError
from edge.frame import FRAME_SAMPLES, Pcm, check_frame
from edge.manifest import GraphSpec, Manifest, artifact_file, read_manifest, verify
from runtime.backends.ort import BoundStep, Session, TensorInfo, open_session
from runtime.backends.pages import use_large_pages
from runtime.models.mimi_state import RingShape, SideState
from runtime.models.state_file import read_arrays, write_arrays

log = logging.getLogger(__name__)

Codes = NDArray[np.int64]

KIND = "mimi"
ENCODER, DECODER = "encoder", "decoder"


class _Side:
    """One graph bound to one stream's buffers, both ways round."""

    def __init__(self, session: Session, ring: RingShape, graph: GraphSpec) -> None:
        self.state = SideState(ring, graph)
        self._bound = [
            BoundStep(session, inputs, outputs)
            for inputs, outputs in zip(self.state.inputs, self.state.outputs, strict=True)
        ]

    def run(self) -> None:
        """One frame: from the input buffers to the output buffers and the next state."""
        self._bound[self.state.parity].run()
        self.state.advance()


class MimiState:
    """Where one stream is. Made by MimiCodec.start(); encode and decode hand it on.

    Encoder and decoder do not touch each other's half, so one thread may encode while another
    decodes; two streams are two states.
    """

    def __init__(self, encoder: _Side, decoder: _Side) -> None:
        self.encoder = encoder
        self.decoder = decoder

    @property
    def n_encoded(self) -> int:
        """Frames encoded so far."""
        return self.encoder.state.n_frames

    @property
    def n_decoded(self) -> int:
        """Frames decoded so far."""
        return self.decoder.state.n_frames


class MimiCodec:
    """The weights of one codec, loaded once; it owns no state, so any number of streams share it.

    n_codebooks: codes a frame. bins: codes are 0 .. bins - 1. recipe: "float", "int8", ...
    fingerprint: hash over the artifact's files, to tell models apart.
    """

    def __init__(self, artifact_dir: Path | str, *, threads: int = 1, device: str = "cpu") -> None:
        """Check the artifact's hashes and load both graphs.

        threads: of each of the two sessions. device: "cpu", "cuda", "metal" or "auto".
        Raises ArtifactError, DeviceError, MissingPackageError.
        """
        directory = Path(artifact_dir)
        self.manifest = read_manifest(directory)
        self.ring, self.n_codebooks, self.bins = ring_of(self.manifest, directory)
        verify(directory, self.manifest)
        self.recipe = self.manifest.recipe.name
        hashes = ",".join(sorted(record.sha256 for record in self.manifest.files))
        self.fingerprint = hashlib.sha256(hashes.encode()).hexdigest()
        self._graphs = {side: self.manifest.graph(side) for side in (ENCODER, DECODER)}
        self._sessions = {
            side: _open(directory, graph, threads, device) for side, graph in self._graphs.items()
        }
        self.device = self._sessions[ENCODER].choice.device

    def start(self) -> MimiState:
        """A new stream."""
        return MimiState(self._side(ENCODER), self._side(DECODER))

    def encode(self, state: MimiState, pcm: Pcm) -> tuple[MimiState, Codes]:
        """Encode the next frame; pcm: float32 (1920,), 24 kHz mono, [-1, 1].

        Returns the state to go on with and the codes, int64 (n_codebooks,), an array of the
        caller's. The state passed in is spent. Raises ShapeError, also for samples that are NaN
        or infinite; the state is then as it was.
        """
        check_frame("pcm", pcm)
        if not np.isfinite(pcm).all():
            raise ShapeError("pcm", got="NaN or infinite samples", want="finite ones")
        side = state.encoder
        side.state.buffers["pcm"][:] = pcm
        side.run()
        codes: Codes = side.state.buffers["codes"].copy()
        return state, codes

    def decode(self, state: MimiState, codes: Codes) -> tuple[MimiState, Pcm]:
        """Decode the next frame; codes: int64 (n_codebooks,), each in 0 .. bins - 1.

        Returns the state to go on with and float32 (1920,), an array of the caller's. The state
        passed in is spent. Raises ShapeError; the state is then as it was.
        """
        if codes.shape != (self.n_codebooks,) or codes.dtype != np.int64:
            want = f"int64 ({self.n_codebooks},)"
            raise ShapeError("codes", got=f"{codes.dtype} {codes.shape}", want=want)
        if codes.min() < 0 or codes.max() >= self.bins:
            got = f"{codes.min()} .. {codes.max()}"
            raise ShapeError("codes", got=got, want=f"0 .. {self.bins - 1}")
        side = state.decoder
        side.state.buffers["codes"][:] = codes
        side.run()
        pcm: Pcm = side.state.buffers["pcm"].copy()
        return state, pcm

    def warm_up(self, n_frames: int = 3) -> None:
        """Make the first real frame as quick as the others.

        Runs a stream of its own for a few frames, with the weights in large pages of memory.
        """
        use_large_pages()
        state = self.start()
        for _ in range(n_frames):
            state, codes = self.encode(state, np.zeros(FRAME_SAMPLES, np.float32))
            state, _ = self.decode(state, codes)

    def save_state(self, state: MimiState, path: Path) -> None:
        """Write a stream's state to a file, all or nothing. Raises EdgeError."""
        arrays = {
            f"{name}.{key}": array
            for name, side in ((ENCODER, state.encoder), (DECODER, state.decoder))
            for key, array in side.state.snapshot().items()
        }
        write_arrays(path, "mimi state", self.fingerprint, arrays)

    def load_state(self, path: Path) -> MimiState:
        """The state that was saved, to go on exactly there.

        Raises ArtifactError for a damaged file or one that another model saved.
        """
        arrays = read_arrays(path, "mimi state", self.fingerprint)
        state = self.start()
        for name, side in ((ENCODER, state.encoder), (DECODER, state.decoder)):
            prefix = f"{name}."
            own = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
            side.state.restore(own)
        return state

    def _side(self, name: str) -> _Side:
        return _Side(self._sessions[name], self.ring, self._graphs[name])


def ring_of(manifest: Manifest, directory: Path) -> tuple[RingShape, int, int]:
    """Attention's sizes, codes a frame and bins. Raises ArtifactError."""
    if manifest.kind != KIND:
        raise ArtifactError(f"{directory} is a {manifest.kind!r} artifact, not a {KIND!r} codec")
    config: dict[str, Any] = dict(manifest.config)
    try:
        positions = FRAME_SAMPLES // math.prod(int(ratio) for ratio in config["ratios"])
        heads = int(config["n_heads"])
        ring = RingShape(
            n_positions=positions,
            context=int(config["context"]),
            n_layers=int(config["n_layers"]),
            n_heads=heads,
            head_dim=int(config["dimension"]) // heads,
            max_period=float(config["max_period"]),
        )
        return ring, int(config["codebooks"]), int(config["bins"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as exc:
        raise ArtifactError(
            f"{directory}: the manifest's config is no Mimi config ({exc}); export it again"
        ) from exc


def _open(directory: Path, graph: GraphSpec, threads: int, device: str) -> Session:
    """Load a graph and compare it with what the manifest says of it. Raises ArtifactError."""
    file = artifact_file(directory, graph.file)
    session = open_session(file, threads=threads, device=device, name=graph.file)
    for side, want, got in (
        ("input", graph.inputs, session.inputs),
        ("output", graph.outputs, session.outputs),
    ):
        listed = {spec.name: TensorInfo(spec.name, spec.dtype, _sizes(spec.shape)) for spec in want}
        for name in sorted(set(listed) | set(got)):
            if listed.get(name) != got.get(name):
                raise ArtifactError(
                    f"{file}: {side} {name} is {_said(got.get(name))}, the manifest says "
                    f"{_said(listed.get(name))}; export the artifact again"
                )
    return session


def _sizes(shape: tuple[int | str, ...]) -> tuple[int | None, ...]:
    """A manifest's shape as onnxruntime gives it: free sizes are None."""
    return tuple(size if isinstance(size, int) else None for size in shape)


def _said(info: TensorInfo | None) -> str:
    return "missing" if info is None else f"{info.dtype} {info.shape}"
