"""`edge quantize calibrate`: speech streamed through a float model, what its weights meet noted.

A multistream model hears each clip and then silence in which it answers; its main transformer is
watched inside llama.cpp, its depth graph runs once more on what it was given. A codec encodes and
decodes each clip. Watched graphs give out what enters every product and convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.errors import ArtifactError, EdgeError, UsageError
from edge.frame import SAMPLE_RATE_HZ
from edge.wav import read_mono
from quant.calibration import Calibration, Float32, merged, read_calibration, write_calibration
from quant.measure.codec import in_frames
from quant.measure.speech import Speech, Utterance
from quant.quality.waves import fault
from quant.subject import Part, Subject, load_editor

if TYPE_CHECKING:
    from runtime.models.mimi import MimiCodec
    from runtime.models.mimi_state import SideState

Progress = Callable[[str, int, int], None]
# Runs one clip's frames, float32 (n, 1920), and adds what it sees to a calibration.
Watch = Callable[[Float32, Calibration], None]

_DATA_FOLDER = "session.model_external_initializers_file_folder_path"
_ANSWER_S = 4.0  # of silence after each clip, in which a multistream model answers


def calibrate(
    subject: Subject, speech: Speech, out: Path, *, codec: Path | None = None,
    on_progress: Progress = lambda *_: None,
) -> Calibration:  # fmt: skip
    """Run speech through a float model and write the calibration `out`.

    codec: what encodes the speech for a multistream model. An interrupted call goes on with the
    next one, clip by clip. Silent and clipped clips are left out. Raises UsageError where `out` is
    there already or nothing is left, ArtifactError for a model that is quantized already.
    """
    if out.exists():
        raise UsageError(f"{out} is there already; remove it, or give another name with --out")
    if not out.parent.is_dir():
        raise UsageError(f"{out.parent} is no folder; make it first")
    if subject.recipe != "float":
        raise ArtifactError(
            f"{subject.path} is {subject.recipe} already; calibrate with the float artifact"
        )
    watch, settings = _watcher(subject, codec)
    part = out.with_name(f".{out.name}.calibrating")
    total = _begun(part, subject, settings)
    wanted = {one.sha256: one for one in speech.utterances}
    if not set(total.speech) <= set(wanted):
        total = Calibration(subject.fingerprint, settings=settings)
    n_skipped = 0
    for done, sha256 in enumerate(sorted(wanted)):
        on_progress("running speech", done, len(wanted))
        if sha256 in total.speech:
            continue
        found = _one(wanted[sha256], watch, subject.fingerprint, settings)
        if found is None:
            n_skipped += 1
            continue
        total = merged([total, found])
        write_calibration(part, total)
    on_progress("running speech", len(wanted), len(wanted))
    if not total.speech:
        raise UsageError(f"every clip of {speech.folder} is silent or clipped; give other speech")
    part.replace(out)
    return total


def merge(files: list[Path], out: Path) -> Calibration:
    """Several calibrations of one model as one file. Raises UsageError."""
    if out.exists():
        raise UsageError(f"{out} is there already; remove it, or give another name with --out")
    parts = [read_calibration(path) for path in files]
    unknown = [path for path, part in zip(files, parts, strict=True) if not part.speech]
    if unknown:
        raise UsageError(f"{unknown[0]} does not say from which speech it is; it cannot be merged")
    total = merged(parts)
    write_calibration(out, total)
    return total


def _begun(part: Path, subject: Subject, settings: str) -> Calibration:
    """What an interrupted call has left, where it was for the same."""
    with suppress(EdgeError):
        found = read_calibration(part)
        if (found.model, found.settings) == (subject.fingerprint, settings):
            return found
    return Calibration(subject.fingerprint, settings=settings)


def _one(clip: Utterance, watch: Watch, model: str, settings: str) -> Calibration | None:
    """One clip alone; None where it is no use."""
    pcm = read_mono(clip.path, SAMPLE_RATE_HZ)
    if fault(pcm):
        return None
    frames = in_frames(pcm)
    found = Calibration(model, {clip.sha256: clip.name}, n_frames=len(frames), settings=settings)
    watch(frames, found)
    return found


def _watcher(subject: Subject, codec: Path | None) -> tuple[Watch, str]:
    """How to run a model's kind, and what the outcome depends on beside model and speech."""
    if subject.section == "mimi":
        return _watch_codec(subject), "codec"
    if subject.section == "moshi":
        from runtime.models.mimi import MimiCodec

        inside = subject.path / "mimi"
        if codec is None and not inside.is_dir():
            raise UsageError(
                f"{subject.path}: a multistream model hears codes; give what makes them with "
                "--codec DIR"
            )
        mimi = MimiCodec(codec or inside)
        return _watch_streams(subject, mimi), f"streams and depth {mimi.fingerprint} {_ANSWER_S}"
    raise UsageError(
        f"{subject.path}: speech streams through codecs and multistream models; a "
        f"{subject.section} model is calibrated by its own maker's tools (--calibration reads "
        "llama.cpp's importance matrices)"
    )


def _watch_streams(subject: Subject, codec: MimiCodec) -> Watch:
    from quant.measure.streams import follow
    from runtime.models.moshi import MoshiModel

    labels = {item.name: item.label for item in subject.items if item.part.engine == "gguf"}
    depth = next((_Watched(part) for part in subject.parts if part.engine == "blocks"), None)
    hearing: list[Calibration] = []  # the one that the clip at hand is noted in

    def receive(name: str, rows: Float32) -> None:
        if name in labels:
            hearing[0].add(labels[name], rows)

    def receive_depth(feeds: Mapping[str, Any]) -> None:
        if depth is not None:
            depth.run(feeds, hearing[0])

    model = MoshiModel(subject.path, on_product=receive)
    n_user = model.spec.layout.n_user
    silence = np.zeros((int(_ANSWER_S * SAMPLE_RATE_HZ) // 1920, 1920), np.float32)

    def watch(frames: Float32, found: Calibration) -> None:
        state, codes = codec.start(), []
        for frame in np.concatenate([frames, silence]):
            state, these = codec.encode(state, frame)
            codes.append(these[:n_user])
        hearing[:] = [found]
        follow(model, np.array(codes), None, on_depth=receive_depth)

    return watch


def _watch_codec(subject: Subject) -> Watch:
    from runtime.models.mimi import DECODER, ENCODER, ring_of
    from runtime.models.mimi_state import SideState

    manifest = subject.manifest
    assert manifest is not None
    ring, _, _ = ring_of(manifest, subject.path)
    sides = {part.name: _Watched(part) for part in subject.parts}

    def watch(frames: Float32, found: Calibration) -> None:
        states = {name: SideState(ring, manifest.graph(name)) for name in (ENCODER, DECODER)}
        for pcm in frames:
            states[ENCODER].buffers["pcm"][:] = pcm
            _advance(sides[ENCODER], states[ENCODER], found)
            states[DECODER].buffers["codes"][:] = states[ENCODER].buffers["codes"]
            _advance(sides[DECODER], states[DECODER], found)

    return watch


def _advance(side: _Watched, state: SideState, found: Calibration) -> None:
    """One frame of a codec's stream."""
    outputs = side.run(state.inputs[state.parity], found)
    for name, buffer in state.outputs[state.parity].items():
        buffer[...] = outputs[name]
    state.advance()


class _Watched:
    """A graph that gives out what enters its weights as well."""

    def __init__(self, part: Part) -> None:
        from onnx import TensorProto, helper

        from quant.onnx_weights import weights_of
        from runtime.backends.ort import open_session

        # Data beside the graph stay where they are: a large model is not held twice.
        editor = load_editor(part.path, whole=part.engine == "graph")
        graph = editor.model.graph
        self._watched: dict[str, list[tuple[str, int]]] = {}
        kinds = {w.name: w.label for w in weights_of(editor) if w.kind in ("matmul", "conv")}
        for node in graph.node:
            if len(node.input) > 1 and node.input[1] in kinds:
                axis = 1 if node.op_type.startswith("Conv") else -1
                label = f"{part.name}:{kinds[node.input[1]]}"
                self._watched.setdefault(node.input[0], []).append((label, axis))
        there = {value.name for value in (*graph.output, *graph.input)}
        for name in self._watched:
            if name not in there:
                graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        self._inputs = {value.name for value in graph.input}
        self._session = open_session(
            editor.model.SerializeToString(),
            name=part.path.name,
            config={_DATA_FOLDER: str(part.path.parent)},
        )

    def run(self, feeds: Mapping[str, Any], found: Calibration) -> Mapping[str, Any]:
        """Run it once, note what entered, and give all outputs."""
        outputs = self._session.run(feeds)
        for name, targets in self._watched.items():
            values = feeds[name] if name in self._inputs else outputs[name]
            for label, axis in targets:
                rows = np.moveaxis(values, axis, -1)
                found.add(label, np.ascontiguousarray(rows).reshape(-1, rows.shape[-1]))
        return outputs
