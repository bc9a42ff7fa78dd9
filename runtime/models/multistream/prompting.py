"""What a conversation may begin with: a voice and a text that the model hears before the user.

The order of frames is voice, silence, text, silence. All of them are given on every stream, so
they go through the main transformer as one batch and the depth transformer is not needed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.errors import ArtifactError, ShapeError, UsageError
from edge.safetensors import SafetensorsFile
from runtime.models.multistream.delays import Int64, StreamLayout, delayed_columns
from runtime.models.multistream.sampling import Float32

# Codes of the published eight-codebook codec: digital silence, and a 440 Hz tone that stands for
# a user who is not there yet.
SILENCE_CODES = (948, 243, 1178, 546, 1736, 1030, 1978, 2008)
TONE_CODES = (430, 1268, 381, 1611, 1095, 1495, 56, 472)
PAUSE_FRAMES = 6  # half a second, cut to whole frames
SYSTEM_TAG = "<system>"


@dataclass(frozen=True, slots=True, eq=False)
class VoicePrompt:
    """How the model should sound.

    Either codes int64 (n_frames, n_own) of a recording, or recorded model inputs: embeddings
    float32 (n, dim) of the first n positions, and columns int64 (2, n_streams), the tokens that
    are input at position n and what is known of the one after it (-2 elsewhere).
    """

    codes: Int64 | None = None
    embeddings: Float32 | None = None
    columns: Int64 | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """What comes before the conversation; text_tokens are those of system_text().

    silence: codes of the model's silent own streams; tone: codes of the absent user's streams.
    """

    text_tokens: tuple[int, ...] = ()
    voice: VoicePrompt | None = None
    silence: tuple[int, ...] = SILENCE_CODES
    tone: tuple[int, ...] = TONE_CODES


@dataclass(frozen=True, slots=True, eq=False)
class PromptPlan:
    """The positions that a prompt fills.

    embeddings: float32 (m, dim), inputs of positions 0..m-1 as recorded, m may be 0.
    columns: int64 (n - m + 1, n_streams), tokens of positions m..n, the last of them in part.
    """

    embeddings: Float32
    columns: Int64

    @property
    def n_positions(self) -> int:
        """Positions to run: n."""
        return len(self.embeddings) + len(self.columns) - 1

    def key(self, *facts: str) -> str:
        """64 hex digits that are equal exactly where the outcome of running the plan is."""
        digest = hashlib.sha256("\n".join(facts).encode())
        for array in (self.embeddings, self.columns):
            digest.update(str(array.shape).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def system_text(text: str) -> str:
    """A text prompt as the model was trained to read it: the same tag at both ends."""
    text = text.strip()
    if text.startswith(SYSTEM_TAG) and text.endswith(SYSTEM_TAG):
        return text
    return f"{SYSTEM_TAG} {text} {SYSTEM_TAG}"


def plan_prompt(prompt: Prompt, layout: StreamLayout, *, padding_id: int, dim: int) -> PromptPlan:
    """Lay a prompt out on the delay lines. Raises UsageError, ShapeError."""
    if layout.max_delay != 1:
        raise UsageError(
            f"prompts are for models with delays of one frame, this one has {layout.max_delay}"
        )
    for name, codes, n in (
        ("prompt silence", prompt.silence, layout.n_own),
        ("prompt tone", prompt.tone, layout.n_user),
    ):
        layout.check_codes(name, np.asarray(codes, np.int64), n)
    if any(not 0 <= token <= layout.text_card for token in prompt.text_tokens):
        raise ShapeError("prompt text", got="a token out of range", want=f"0..{layout.text_card}")
    pause = _frames(prompt, layout, [padding_id] * PAUSE_FRAMES)
    text = _frames(prompt, layout, list(prompt.text_tokens))
    after_voice = np.concatenate([pause, text, pause])
    voice = prompt.voice
    none = np.zeros((0, dim), np.float32)
    if voice is None:
        return PromptPlan(none, delayed_columns(after_voice, layout))
    check_voice(voice, layout, dim)
    if voice.embeddings is not None and voice.columns is not None:
        return _after_recording(voice.embeddings, voice.columns, after_voice, layout)
    spoken = np.zeros((0, layout.n_own), np.int64) if voice.codes is None else voice.codes
    frames = np.concatenate([_voice_frames(spoken, prompt, layout, padding_id), after_voice])
    return PromptPlan(none, delayed_columns(frames, layout))


def _frames(prompt: Prompt, layout: StreamLayout, text: list[int]) -> Int64:
    """A silent frame for each text token, int64 (n, n_streams)."""
    frames = np.zeros((len(text), layout.n_streams), np.int64)
    frames[:, 0] = text
    frames[:, 1 : 1 + layout.n_own] = prompt.silence
    frames[:, 1 + layout.n_own :] = prompt.tone
    return frames


def check_voice(voice: VoicePrompt, layout: StreamLayout, dim: int) -> None:
    """Refuse a voice that is not for a model of these streams and width. Raises ShapeError."""
    codes, embeddings, columns = voice.codes, voice.embeddings, voice.columns
    if codes is not None:
        if codes.ndim != 2 or codes.shape[1] != layout.n_own or not len(codes):
            raise ShapeError("voice codes", got=codes.shape, want=f"(n, {layout.n_own})")
        layout.check_codes("voice codes", codes.ravel(), codes.size)
        return
    if embeddings is None or embeddings.ndim != 2 or embeddings.shape[1] != dim:
        got = None if embeddings is None else embeddings.shape
        raise ShapeError("voice inputs", got=got, want=f"(n, {dim})")
    if columns is None or columns.shape != (2, layout.n_streams):
        got = None if columns is None else columns.shape
        raise ShapeError("voice columns", got=got, want=(2, layout.n_streams))


def _voice_frames(codes: Int64, prompt: Prompt, layout: StreamLayout, padding_id: int) -> Int64:
    frames = _frames(prompt, layout, [padding_id] * len(codes))
    frames[:, 1 : 1 + layout.n_own] = codes
    return frames


def _after_recording(
    embeddings: Float32, known: Int64, frames: Int64, layout: StreamLayout
) -> PromptPlan:
    """Go on from recorded inputs: their last two columns, then the frames after the voice."""
    columns = delayed_columns(frames, layout)
    for stream, delay in enumerate(layout.delays):
        # These frames are not the first ones: no start tokens, the voice's own last frame.
        columns[: delay + 1, stream] = np.where(
            np.arange(delay + 1) < delay, known[1, stream], frames[0, stream]
        )
    return PromptPlan(embeddings, np.concatenate([known[:1], columns]))


def read_voice(path: Path, layout: StreamLayout) -> VoicePrompt:
    """A voice from a safetensors file made by `edge export voice`.

    It holds `codes` (n, n_own), or `embeddings` (n, dim) with `columns` (2, n_streams).
    Raises ModelMissingError, ArtifactError.
    """
    file = SafetensorsFile(path)
    names = set(file.entries)
    if names == {"codes"}:
        return VoicePrompt(codes=file.read_integers("codes"))
    if names == {"embeddings", "columns"}:
        columns = file.read_integers("columns")
        if columns.shape == (2, layout.n_streams):
            return VoicePrompt(embeddings=file.read("embeddings").float32(), columns=columns)
    raise ArtifactError(
        f"{path.name}: not a voice for this model (it holds {', '.join(sorted(names))}); "
        "make one with `edge export voice`"
    )
