"""The codec's training sound on disk: shards of clips with what the recogniser's encoder hears.

A shard is a folder: audio.npy int16 (n,), heard.npy float16 (frames, 384), clips.json. It is
written as a whole or not at all, and made from its number alone, so more can be made at any time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.atomic import atomic_path
from edge.errors import ModelMissingError
from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm
from edge.lock import read_lock
from edge.paths import make_dir
from edge.resample import Resampler
from edge.store import ModelStore
from export.mini import effects, texts, voices
from runtime.backends.ct2 import WhisperNet
from runtime.models.logmel import EAR_RATE_HZ, log_mel, make_mel_plan
from runtime.models.tts import Voice

Progress = Callable[[int, int], None]

_ROWS_PER_FRAME = 4  # the encoder gives a row every 20 ms
_ASSISTANT_SHARE = 0.45


@dataclass(frozen=True, slots=True)
class Clip:
    """Where a sentence lies in a shard, in frames of 80 ms, and who says it."""

    speaker: str
    text: str
    first_frame: int
    n_frames: int


@dataclass(frozen=True, slots=True)
class Shard:
    """An opened shard; the arrays are mapped, not read."""

    audio: NDArray[np.int16]
    heard: NDArray[np.float16]
    clips: tuple[Clip, ...]


class Ear:
    """The starter recogniser's encoder as a teacher: 24 kHz to one row of 384 a frame."""

    def __init__(self) -> None:
        self._net = WhisperNet(ModelStore(read_lock()).files("whisper-tiny.en"))
        self._plan = make_mel_plan()

    def rows(self, pcm: Pcm) -> NDArray[np.float16]:
        """float16 (frames, 384) of float32 (frames * 1920,): the mean of the frame's four rows."""
        heard = Resampler(SAMPLE_RATE_HZ, EAR_RATE_HZ).push(pcm, last=True)
        encoded = self._net.encode(log_mel(self._plan, heard))
        n = len(pcm) // FRAME_SAMPLES
        rows = encoded[: n * _ROWS_PER_FRAME].reshape(n, _ROWS_PER_FRAME, -1)
        return np.asarray(rows.mean(1), np.float16)


def load_studio() -> voices.Studio:
    """The speakers, with the starter voice loaded and checked."""
    return voices.Studio(Voice(ModelStore(read_lock()).files("hibari-heart")))


def make_shard(
    folder: Path, number: int, n_clips: int, studio: voices.Studio, ear: Ear, progress: Progress
) -> Path:
    """Write shard `number` of n_clips sentences; one that is there already is left alone."""
    out = folder / f"shard-{number:03d}"
    if (out / "clips.json").is_file():
        return out
    rng = np.random.default_rng((7, number))
    users = [s for s in voices.installed() if not s.held_out]
    pieces: list[NDArray[np.int16]] = []
    heard: list[NDArray[np.float16]] = []
    clips: list[Clip] = []
    first = 0
    for done in range(n_clips):
        text, seed = texts.sentence(rng), int(rng.integers(1 << 30))
        if rng.random() < _ASSISTANT_SHARE:
            name, pcm = voices.ASSISTANT, studio.assistant(text, seed=seed)
        else:
            speaker = users[int(rng.integers(len(users)))]
            name = speaker.name
            pcm = effects.worn(studio.say(speaker, text, seed=seed), rng)
        pcm = in_frames(pcm, lead=int(rng.integers(2 * FRAME_SAMPLES)))
        heard.append(ear.rows(pcm))
        pieces.append((pcm * 32767).astype(np.int16))
        clips.append(Clip(name, text, first, len(heard[-1])))
        first += len(heard[-1])
        progress(done + 1, n_clips)
    make_dir(folder)
    with atomic_path(out) as part:
        part.mkdir(parents=True)
        np.save(part / "audio.npy", np.concatenate(pieces))
        np.save(part / "heard.npy", np.concatenate(heard))
        rows = [asdict(clip) for clip in clips]
        (part / "clips.json").write_text(json.dumps(rows), encoding="utf-8")
    return out


def in_frames(pcm: Pcm, *, lead: int) -> Pcm:
    """The sound with `lead` silent samples before it and enough after it to make whole frames."""
    n = lead + len(pcm)
    return np.pad(pcm, (lead, FRAME_SAMPLES + -n % FRAME_SAMPLES))


def open_shards(folder: Path) -> Sequence[Shard]:
    """Every whole shard in the folder, in order. Raises ModelMissingError where there is none."""
    found = []
    for path in sorted(folder.glob("shard-???")):
        rows = json.loads((path / "clips.json").read_text(encoding="utf-8"))
        found.append(
            Shard(
                np.load(path / "audio.npy", mmap_mode="r"),
                np.load(path / "heard.npy", mmap_mode="r"),
                tuple(Clip(**row) for row in rows),
            )
        )
    if not found:
        raise ModelMissingError(f"{folder}: no training sound yet; make it with: edge mini data")
    return found
