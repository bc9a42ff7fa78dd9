"""`edge codec`: sound to tokens and back with an exported codec."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from apps.cli.lazy import Lazy, LazyGroup
from apps.cli.options import json_option

if TYPE_CHECKING:
    from edge.frame import Pcm
    from edge.tokens import TokenHeader
    from runtime.models.mimi import MimiCodec

COMMANDS = {
    "encode": Lazy("apps.cli.codec:encode", "A sound file to a token file."),
    "decode": Lazy("apps.cli.codec:decode", "A token file to a WAV."),
    "roundtrip": Lazy("apps.cli.codec:roundtrip", "A sound file through the codec to a WAV."),
    "choose": Lazy("apps.cli.codec:choose", "Measure which preset this machine runs in time."),
}

_path = click.Path(path_type=Path)
_model_option = click.option(
    "--model", type=_path, required=True, metavar="DIR",
    help="A codec artifact, or a folder of several presets of one.",
)  # fmt: skip
_preset_option = click.option(
    "--preset", default="", metavar="NAME",
    help="Which of several presets: float, int8, ...; auto measures what this machine runs in "
    "time. Without it: the most precise.",
)  # fmt: skip
_threads_option = click.option("--threads", type=int, default=1, show_default=True)
_device_option = click.option("--device", default="cpu", show_default=True, metavar="NAME")


@dataclass
class _Work:
    """How much was done: frames, samples of sound, seconds it took."""

    n_frames: int = 0
    n_samples: int = 0
    taken_s: float = 0.0


@dataclass(frozen=True)
class _Asked:
    """One conversion: what is read, what is written, and the codec that does it."""

    source: Path
    target: Path
    model: Path
    opened: MimiCodec
    as_json: bool


def _conversion(source: str, target: str) -> Callable[[Callable[[_Asked], None]], Any]:
    """The arguments and options of a command that converts one file; they are named `source`, ...

    What could only fail, or destroy, after the work is refused before the codec is opened.
    """

    def around(convert: Callable[[_Asked], None]) -> Any:
        def run(
            model: Path,
            source: Path,
            target: Path,
            preset: str,
            threads: int,
            device: str,
            as_json: bool,
        ) -> None:
            _check_target(source, target)
            opened = _open(model, preset, threads, device)
            convert(_Asked(source, target, model, opened, as_json))

        command: Any = update_wrapper(run, convert)
        for option in (
            json_option,
            _device_option,
            _threads_option,
            _preset_option,
            click.argument("target", type=_path, metavar=target),
            click.argument("source", type=_path, metavar=source),
            _model_option,
        ):
            command = option(command)
        return command

    return around


@click.group(cls=LazyGroup, table=COMMANDS)
def codec() -> None:
    """Encode sound into tokens (1.1 kbit/s at 8 codebooks) and decode them, any length."""


@click.command("encode")
@_conversion("IN", "OUT.tokens")
def encode(asked: _Asked) -> None:
    """Encode a sound file of any rate and channel count."""
    from apps.cli.stages import stages
    from edge.tokens import TokenWriter

    opened, header = asked.opened, _header(asked.opened)
    work, state = _Work(), opened.start()
    with stages() as told, TokenWriter(asked.target, header) as out:
        for pcm, n_samples in _told(_frames(asked.source), "encoding", work, told):
            state, codes = opened.encode(state, pcm)
            out.write(codes, n_samples)
    _report("encode", work, asked)


@click.command("decode")
@_conversion("IN.tokens", "OUT.wav")
def decode(asked: _Asked) -> None:
    """Decode a token file with the codec that it was made with, in any precision."""
    from apps.cli.stages import stages
    from edge.errors import ArtifactError
    from edge.frame import FRAME_SAMPLES
    from edge.tokens import TokenReader
    from edge.wav import WavWriter

    tokens, opened = TokenReader(asked.source), asked.opened
    header = _header(opened)
    if tokens.header != header:
        raise ArtifactError(
            f"{asked.source} holds {_said(tokens.header)}, {asked.model} decodes {_said(header)}; "
            "use the codec that encoded it"
        )
    work, state = _Work(), opened.start()
    began = time.perf_counter()
    with stages() as told, WavWriter(asked.target) as out:
        for codes in tokens:
            state, pcm = opened.decode(state, codes)
            n_samples = min(FRAME_SAMPLES, tokens.n_samples - work.n_samples)
            out.write(pcm[:n_samples])
            work.n_frames, work.n_samples = work.n_frames + 1, work.n_samples + n_samples
            told("decoding", work.n_frames, tokens.n_frames)
    work.taken_s = time.perf_counter() - began
    _report("decode", work, asked)


@click.command("roundtrip")
@_conversion("IN", "OUT.wav")
def roundtrip(asked: _Asked) -> None:
    """Encode and decode in one go, to hear what the codec makes of a sound."""
    from apps.cli.stages import stages
    from edge.wav import WavWriter

    opened = asked.opened
    work, state = _Work(), opened.start()
    with stages() as told, WavWriter(asked.target) as out:
        for pcm, n_samples in _told(_frames(asked.source), "encoding and decoding", work, told):
            state, codes = opened.encode(state, pcm)
            state, heard = opened.decode(state, codes)
            out.write(heard[:n_samples])
    _report("roundtrip", work, asked)


@click.command("choose")
@_model_option
@click.option("--max-ms", type=float, default=40.0, show_default=True, help="Of a frame, at p99.")
@_threads_option
@_device_option
@json_option
def choose(model: Path, max_ms: float, threads: int, device: str, as_json: bool) -> None:
    """Time the presets in DIR, most precise first, until one fits; 40 ms are half a frame."""
    from runtime.models.mimi_probe import choose_codec, find_presets

    presets = list(find_presets(model).values())
    choice = choose_codec(presets, threads=threads, device=device, max_step_ms=max_ms)
    if as_json:
        times = {name: asdict(each) for name, each in choice.tried.items()}
        click.echo(json.dumps({"preset": choice.codec.recipe, "tried": times}))
        return
    for name, each in choice.tried.items():
        click.echo(
            f"{name}: {each.p50_ms:.1f} ms a frame, p99 {each.p99_ms:.1f}, most {each.max_ms:.1f}"
        )
    click.echo(f"chosen {choice.reason}")


def _check_target(source: Path, target: Path) -> None:
    """Refuse before the work what could only fail, or destroy, after it. Raises UsageError."""
    from edge.errors import UsageError

    if target.is_dir():
        raise UsageError(f"{target} is a folder; give the name of a file")
    if target.exists() and source.exists() and target.samefile(source):
        raise UsageError(f"{target} would replace what is read; give another name")


def _open(model: Path, preset: str, threads: int, device: str) -> MimiCodec:
    from runtime.models.mimi_probe import open_codec

    return open_codec(model, preset=preset, threads=threads, device=device).codec


def _header(opened: MimiCodec) -> TokenHeader:
    """What this codec's token files say; codes are the same for every precision of it."""
    from edge.tokens import TokenHeader

    sources = opened.manifest.sources
    checkpoint = sources[0].sha256 if sources else "0" * 64
    return TokenHeader(opened.n_codebooks, opened.bins, checkpoint)


def _said(header: TokenHeader) -> str:
    return (
        f"{header.n_codebooks} codes of {header.bins} from checkpoint {header.checkpoint[:12]}..."
    )


def _frames(source: Path) -> Iterator[tuple[Pcm, int, int]]:
    """Frames of a sound file: samples, how many of them are sound, and about how many follow."""
    from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ
    from edge.wav import open_audio

    with open_audio(source) as sound:
        total = -(-int((sound.duration_s or 0) * SAMPLE_RATE_HZ) // FRAME_SAMPLES)
        rest = np.zeros(0, np.float32)
        for piece in sound.pieces(SAMPLE_RATE_HZ):
            rest = np.concatenate([rest, piece])
            while len(rest) >= FRAME_SAMPLES:
                yield rest[:FRAME_SAMPLES], FRAME_SAMPLES, total
                rest = rest[FRAME_SAMPLES:]
        if len(rest):
            yield np.pad(rest, (0, FRAME_SAMPLES - len(rest))), len(rest), total


def _told(
    frames: Iterator[tuple[Pcm, int, int]], stage: str, work: _Work, told: Any
) -> Iterator[tuple[Pcm, int]]:
    """Count frames and time, and say how far it is."""
    began = time.perf_counter()
    for pcm, n_samples, total in frames:
        yield pcm, n_samples
        work.n_frames, work.n_samples = work.n_frames + 1, work.n_samples + n_samples
        told(stage, work.n_frames, max(total, work.n_frames))
    work.taken_s = time.perf_counter() - began


def _report(what: str, work: _Work, asked: _Asked) -> None:
    from edge.frame import SAMPLE_RATE_HZ

    opened, target, header = asked.opened, asked.target, _header(asked.opened)
    sound_s = work.n_samples / SAMPLE_RATE_HZ
    facts = {
        "command": what,
        "output": str(target),
        "output_bytes": target.stat().st_size,
        "frames": work.n_frames,
        "sound_s": round(sound_s, 3),
        "taken_s": round(work.taken_s, 3),
        "times_real_time": round(sound_s / work.taken_s, 2) if work.taken_s else None,
        "preset": opened.recipe,
        "codebooks": header.n_codebooks,
        "kbit_per_s": round(header.kbit_per_s, 3),
    }
    if asked.as_json:
        click.echo(json.dumps(facts))
        return
    click.echo(
        f"{target}: {sound_s:.2f} s of sound, {work.n_frames} frame(s) at "
        f"{header.kbit_per_s:.2f} kbit/s, {work.taken_s:.2f} s "
        f"({facts['times_real_time']} times real time)"
    )
