"""What a codec costs on this machine, and which of several presets fits into the frame."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import ArtifactError, DeadlineError, UsageError
from edge.frame import FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE_HZ
from edge.manifest import FILE_NAME, Manifest, read_manifest
from runtime.models.mimi import KIND, MimiCodec

log = logging.getLogger(__name__)

# Half a frame: the other half belongs to what happens between encoder and decoder.
MAX_STEP_MS = FRAME_MS / 2
_N_WARM, _N_TIMED = 5, 30


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Milliseconds of one frame, encoded and decoded: median, 99th percentile, largest."""

    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class CodecChoice:
    """The codec that was opened; tried: preset -> its times; reason: one line for people."""

    codec: MimiCodec
    tried: dict[str, StepTimes]
    reason: str


def probe_sound(n_frames: int, seed: int) -> NDArray[np.float32]:
    """Frames to try a codec on, float32 (n_frames, 1920): gliding voices, pauses, then noise."""
    rng = np.random.default_rng(seed)
    n_samples = n_frames * FRAME_SAMPLES
    t = np.arange(n_samples) / SAMPLE_RATE_HZ
    pitch_hz = 130 + 60 * np.sin(2 * np.pi * 0.7 * t) + 25 * np.sin(2 * np.pi * 3.1 * t)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ
    voice = sum(np.sin(k * phase + k) / k**1.1 for k in range(1, 14))
    loudness = np.clip(np.sin(2 * np.pi * 1.3 * t) + 0.3, 0, 1)
    noise = rng.normal(size=n_samples) * np.where(t > 0.7 * t[-1], 0.1, 0.005)
    pcm: NDArray[np.float32] = (0.15 * loudness * voice + noise).astype(np.float32)
    return pcm.reshape(n_frames, FRAME_SAMPLES)


def time_codec(codec: MimiCodec, *, n_frames: int = _N_TIMED) -> StepTimes:
    """Encode and decode a stream as fast as it goes, after warming up."""
    codec.warm_up()
    state = codec.start()
    taken_ms = []
    for index, pcm in enumerate(probe_sound(_N_WARM + n_frames, seed=1)):
        began_ns = time.perf_counter_ns()
        state, codes = codec.encode(state, pcm)
        state, _ = codec.decode(state, codes)
        if index >= _N_WARM:
            taken_ms.append((time.perf_counter_ns() - began_ns) / 1e6)
    p50, p99 = np.percentile(taken_ms, (50, 99))
    return StepTimes(float(p50), float(p99), max(taken_ms))


def find_presets(folder: Path) -> dict[str, Path]:
    """Recipe -> artifact, most precise first: the folder itself, or the codecs that lie in it.

    Raises ArtifactError where there is none, or where they are not presets of one codec.
    """
    if (folder / FILE_NAME).is_file() or not folder.is_dir():
        return {read_manifest(folder).recipe.name: folder}
    found: dict[str, tuple[Manifest, Path]] = {}
    for place in sorted(folder.iterdir()):
        if not (place / FILE_NAME).is_file():
            continue
        manifest = read_manifest(place)
        if manifest.kind != KIND:
            continue
        other = found.setdefault(manifest.recipe.name, (manifest, place))[1]
        if other != place:
            raise ArtifactError(f"{other} and {place} are both {manifest.recipe.name}; name one")
    if not found:
        raise ArtifactError(f"{folder} holds no codec: neither a {FILE_NAME} nor presets")
    models = {(manifest.sources, str(manifest.config)) for manifest, _ in found.values()}
    if len(models) > 1:
        raise ArtifactError(f"{folder} holds presets of different codecs; name one of them")
    in_order = sorted(found.items(), key=lambda each: -_size_bytes(each[1][0]))
    return {recipe: place for recipe, (_, place) in in_order}


def open_codec(
    folder: Path, *, preset: str = "", threads: int = 1, device: str = "cpu"
) -> CodecChoice:
    """Open a codec, or of a folder of presets the one that is named or the most precise one.

    preset: a recipe's name, or "auto": of several, the most precise that this machine runs in time.
    Raises UsageError for one that is not there, and what choose_codec raises.
    """
    presets = find_presets(folder)
    if preset == "auto" and len(presets) > 1:
        return choose_codec(list(presets.values()), threads=threads, device=device)
    if preset not in ("", "auto", *presets):
        raise UsageError(f"{folder} has no preset {preset!r}; it has {', '.join(presets)}")
    named = preset in presets
    name = preset if named else next(iter(presets))
    codec = MimiCodec(presets[name], threads=threads, device=device)
    return CodecChoice(codec, {}, f"{name}: {'asked for' if named else 'the most precise here'}")


def choose_codec(
    artifacts: Sequence[Path | str],
    *,
    threads: int = 1,
    device: str = "cpu",
    max_step_ms: float = MAX_STEP_MS,
) -> CodecChoice:
    """Open the first artifact whose frames take at most `max_step_ms` here, at p99.

    artifacts: the same codec in falling precision, such as float, transparent, int8. Raises
    DeadlineError where none fits, ArtifactError and DeviceError as opening does.
    """
    if not artifacts:
        raise UsageError("there is no codec to choose from")
    tried: dict[str, StepTimes] = {}
    for artifact in artifacts:
        codec = MimiCodec(artifact, threads=threads, device=device)
        times = tried[codec.recipe] = time_codec(codec)
        if times.p99_ms <= max_step_ms:
            reason = (
                f"{codec.recipe}: {times.p99_ms:.1f} ms a frame at p99, at most {max_step_ms:.0f}"
            )
            log.info("codec %s", reason)
            return CodecChoice(codec, tried, reason)
    told = ", ".join(f"{name} {times.p99_ms:.0f} ms" for name, times in tried.items())
    raise DeadlineError(
        f"no codec preset keeps a frame under {max_step_ms:.0f} ms here ({told}); "
        "quantize a smaller preset, or give it more threads"
    )


def _size_bytes(manifest: Manifest) -> int:
    return sum(record.size_bytes for record in manifest.files)
