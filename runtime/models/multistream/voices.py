"""Voices that a prompt begins with: a recording, or a file made by `edge export voice`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edge.errors import AudioFileError, UsageError
from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm
from edge.loudness import normalised
from edge.wav import read_mono
from runtime.models.multistream.delays import Int64, StreamLayout
from runtime.models.multistream.prompting import (
    SILENCE_CODES,
    TONE_CODES,
    VoicePrompt,
    read_voice,
)

# What PersonaPlex was trained to hear voices at.
TARGET_LUFS = -24.0
# The published voices are 4 s; the context is 240 s, and a voice stays in it to the end.
_LONGEST_S = 30.0
_STEADY_FRAMES = 8


class Encoder(Protocol):
    """The half of a codec that a voice needs; MimiCodec is one."""

    def start(self) -> Any:
        """A new stream."""

    def encode(self, state: Any, pcm: Pcm) -> tuple[Any, Int64]:
        """80 ms of sound to codes."""


def open_voice(path: Path, layout: StreamLayout, codec: Encoder) -> VoicePrompt:
    """A voice from a sound file or a .safetensors file.

    Raises UsageError for a .pt file, which has to be converted first, AudioFileError,
    ArtifactError.
    """
    if path.suffix == ".pt":
        raise UsageError(
            f"{path}: convert it once with `edge export voice {path.name} --model DIR --out "
            f"{path.stem}.safetensors`; nothing else opens files of this kind"
        )
    if path.suffix == ".safetensors":
        return read_voice(path, layout)
    return encode_voice(path, layout, codec)


def quiet_codes(codec: Encoder, layout: StreamLayout) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What a silent model and an absent user are in prompts: codes of silence and of a 440 Hz tone.

    Those that PersonaPlex was trained with where the codec is the published one; any other codec
    is asked.
    """
    silent = _steady(codec, np.zeros(_STEADY_FRAMES * FRAME_SAMPLES, np.float32))
    if sum(a == b for a, b in zip(silent, SILENCE_CODES, strict=False)) > len(SILENCE_CODES) // 2:
        return SILENCE_CODES[: layout.n_own], TONE_CODES[: layout.n_user]
    t = np.arange(_STEADY_FRAMES * FRAME_SAMPLES) / SAMPLE_RATE_HZ
    tone = _steady(codec, (0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32))
    return silent[: layout.n_own], tone[: layout.n_user]


def _steady(codec: Encoder, pcm: Pcm) -> tuple[int, ...]:
    """The codes of the last frame of a sound."""
    state, codes = codec.start(), np.zeros(0, np.int64)
    for frame in pcm.reshape(-1, FRAME_SAMPLES):
        state, codes = codec.encode(state, frame)
    return tuple(int(code) for code in codes)


def encode_voice(path: Path, layout: StreamLayout, codec: Encoder) -> VoicePrompt:
    """Encode a recording, brought to the loudness of the training voices. Raises AudioFileError."""
    pcm = read_mono(path, SAMPLE_RATE_HZ)
    if len(pcm) > _LONGEST_S * SAMPLE_RATE_HZ:
        raise AudioFileError(
            f"{path}: {len(pcm) / SAMPLE_RATE_HZ:.0f} s; a voice is told by 4 s, want at most "
            f"{_LONGEST_S:.0f} s"
        )
    try:
        pcm = normalised(pcm, SAMPLE_RATE_HZ, TARGET_LUFS)
    except AudioFileError as error:
        raise AudioFileError(f"{path}: {error}") from error
    pcm = np.pad(pcm, (0, -len(pcm) % FRAME_SAMPLES)).astype(np.float32)
    state, codes = codec.start(), []
    for frame in pcm.reshape(-1, FRAME_SAMPLES):
        state, frame_codes = codec.encode(state, frame)
        codes.append(frame_codes[: layout.n_own])
    return VoicePrompt(codes=np.array(codes))
