"""What a codec costs on this machine, and which of several presets fits into the frame."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import DeadlineError, UsageError
from edge.frame import FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE_HZ
from runtime.models.mimi import MimiCodec

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
