"""The utterances that conversations are made of: everything users ask and the assistant says.

Sound is made once and kept; codes are made from it with a codec and kept beside it under that
codec's name, so a better codec only costs a second encoding.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.atomic import atomic_path
from edge.errors import ModelMissingError
from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm
from export.mini import effects, intents, voices
from export.mini.corpus import in_frames

Progress = Callable[[int, int], None]
Encode = Callable[[Pcm], NDArray[np.int64]]

LEAD_FRAMES = 4  # of silence or of the line's own noise, before a user's words
TAIL_FRAMES = 3
_KINDS = ("reply", "recall", "ask", "control", "back-channel", "noise")


@dataclass(frozen=True, slots=True)
class Utterance:
    """A piece of sound in the bank, in frames of 80 ms.

    kind: reply, recall ("You said, ..."), ask, control, back-channel or noise. key: the intent's.
    split: of phrasing, voice and noise together. first_word, last_word: the frames where speech
    begins and ends, counted from the piece's own start.
    """

    kind: str
    key: str
    text: str
    speaker: str
    split: str
    first_frame: int
    n_frames: int
    first_word: int
    last_word: int


@dataclass(frozen=True, slots=True)
class Bank:
    """An opened bank: audio int16 (n,) mapped, its utterances, and codes int16 (8, frames)."""

    audio: NDArray[np.int16]
    utterances: tuple[Utterance, ...]
    codes: NDArray[np.int16]

    def of(self, kind: str, split: str | None = None) -> list[Utterance]:
        """All utterances of a kind."""
        return [u for u in self.utterances if u.kind == kind and split in (None, u.split)]

    def audio_of(self, utterance: Utterance) -> NDArray[np.int16]:
        """Its samples as they are kept, int16 (n_frames * 1920,)."""
        start = utterance.first_frame * FRAME_SAMPLES
        return self.audio[start : start + utterance.n_frames * FRAME_SAMPLES]

    def sound_of(self, utterance: Utterance) -> Pcm:
        """Its samples, float32 (n_frames * 1920,)."""
        return as_float(self.audio_of(utterance))

    def codes_of(self, utterance: Utterance) -> NDArray[np.int16]:
        """(8, n_frames)."""
        first = utterance.first_frame
        return self.codes[:, first : first + utterance.n_frames]


@dataclass(frozen=True, slots=True)
class BankPlan:
    """How much to say. voices_per_ask: how many users ask each phrasing.

    bends: every trained user utterance is there again for each of them, faster or slower and with
    that higher or lower by a factor from the range: more voices than are installed.
    """

    seed: int = 7
    voices_per_ask: int = 8
    voices_per_control: int = 16
    held_out_voices_per_ask: int = 2
    n_noises: int = 24
    noise_frames: int = 100
    bends: tuple[tuple[float, float], ...] = ((0.84, 0.96), (1.04, 1.18))


def make_bank(
    folder: Path,
    wanted: Sequence[intents.Intent],
    plan: BankPlan,
    studio: voices.Studio,
    progress: Progress,
) -> Path:
    """Write the sound of a bank; one that is there already is left alone.

    Held-out phrasings are asked by voices of training, and trained phrasings by held-out voices,
    all without noise, so that each can be asked for by itself; noises come in both kinds.
    """
    if (folder / "utterances.json").is_file():
        return folder
    maker = _Maker(studio, plan)
    jobs = list(_jobs(wanted, plan))
    for done, job in enumerate(jobs):
        maker.add(*job)
        progress(done + 1, len(jobs))
    with atomic_path(folder) as part:
        part.mkdir(parents=True)
        np.save(part / "audio.npy", np.concatenate(maker.pieces))
        rows = [asdict(utterance) for utterance in maker.utterances]
        (part / "utterances.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder


Job = tuple[str, str, str, "voices.Speaker | None", str]
Some = Callable[[bool, int], list[voices.Speaker]]


def _jobs(wanted: Sequence[intents.Intent], plan: BankPlan) -> Iterable[Job]:
    """(kind, key, text, speaker, split) of everything to say."""
    rng = np.random.default_rng(plan.seed)
    people = {flag: [s for s in voices.installed() if s.held_out == flag] for flag in (False, True)}

    def some(held_out: bool, n: int) -> list[voices.Speaker]:
        group = people[held_out]
        return [group[i] for i in rng.permutation(len(group))[:n]]

    for intent in wanted:
        yield "reply", intent.key, intent.reply, None, "train"
        if intent.key in intents.CORE:
            yield "recall", intent.key, intents.recalled(intent), None, "train"
        yield from _asks(intent, plan, some)
    for control in intents.CONTROLS:
        for ask in control.asks:
            for speaker in some(False, plan.voices_per_control):
                yield "control", control.key, ask, speaker, control.split(ask)
    for text in intents.BACK_CHANNELS:
        for speaker in some(False, plan.voices_per_ask):
            yield "back-channel", "", text, speaker, "train"
    for index in range(plan.n_noises):
        kind = list(effects.NOISES)[index % len(effects.NOISES)]
        split = "held-out" if kind in effects.HELD_OUT_NOISES else "train"
        yield "noise", kind, "", None, split


def _asks(intent: intents.Intent, plan: BankPlan, some: Some) -> Iterable[Job]:
    """Every phrasing by some voices, each on its side of the splits."""
    for ask in intent.asks:
        phrasing = intent.split(ask)
        n = plan.voices_per_ask if phrasing == "train" else plan.held_out_voices_per_ask
        for speaker in some(False, n):
            split = "train" if phrasing == "train" else "new phrasing"
            yield "ask", intent.key, ask, speaker, split
        for speaker in some(True, 1):
            split = "new voice" if phrasing == "train" else "new phrasing and voice"
            yield "ask", intent.key, ask, speaker, split


class _Maker:
    """Collects pieces of sound and what they are."""

    def __init__(self, studio: voices.Studio, plan: BankPlan) -> None:
        self.studio, self.plan = studio, plan
        self.pieces: list[NDArray[np.int16]] = []
        self.utterances: list[Utterance] = []
        self._rng = np.random.default_rng((plan.seed, 1))
        self._frames = 0

    def add(
        self, kind: str, key: str, text: str, speaker: voices.Speaker | None, split: str
    ) -> None:
        """Make one piece and put it at the end."""
        rng, seed = self._rng, int(self._rng.integers(1 << 30))
        if kind == "noise":
            level = 10 ** (rng.uniform(-70, -35) / 20)
            sound = effects.noise(key, rng, self.plan.noise_frames * FRAME_SAMPLES)
            pcm = np.asarray(level * sound, np.float32)
            first, last = 0, self.plan.noise_frames
        elif speaker is None:
            # The same words are always the same sound, on the frame grid: easy to learn.
            said = self.studio.assistant(text, seed=0)
            first, last = 0, -(-len(said) // FRAME_SAMPLES)
            pcm = np.pad(in_frames(said, lead=0), (0, TAIL_FRAMES * FRAME_SAMPLES))
        else:
            said = self.studio.say(speaker, text, seed=seed)
            pcm, first, last = self._asked(said, split)
            if split == "train":
                for low, high in self.plan.bends:
                    factor = float(rng.uniform(low, high))
                    other = voices.converted(said, round(SAMPLE_RATE_HZ * factor))
                    who = f"{speaker.name} x{factor:.2f}"
                    self._keep(kind, key, text, who, split, *self._asked(other, split))
        self._keep(
            kind, key, text, speaker.name if speaker else voices.ASSISTANT, split, pcm, first, last
        )

    def _asked(self, said: Pcm, split: str) -> tuple[Pcm, int, int]:
        """A user's words with silence around them, a level and a line, and their frames."""
        rng = self._rng
        lead = LEAD_FRAMES * FRAME_SAMPLES + int(rng.integers(FRAME_SAMPLES))
        pcm = np.pad(in_frames(said, lead=lead), (0, (TAIL_FRAMES - 1) * FRAME_SAMPLES))
        pcm = np.asarray(pcm * 10 ** (rng.uniform(-6, 6) / 20), np.float32)
        last = -(-(lead + len(said)) // FRAME_SAMPLES)
        pcm = effects.worn(pcm, rng) if split == "train" else pcm
        return pcm, lead // FRAME_SAMPLES, last

    def _keep(
        self, kind: str, key: str, text: str, who: str, split: str, pcm: Pcm, first: int, last: int
    ) -> None:
        n = len(pcm) // FRAME_SAMPLES
        self.pieces.append((np.clip(pcm, -1, 1) * 32767).astype(np.int16))
        self.utterances.append(
            Utterance(kind, key, text, who, split, self._frames, n, first, min(last, n))
        )
        self._frames += n


def as_float(audio: NDArray[np.int16]) -> Pcm:
    """Kept samples, int16 (n,), as float32 (n,)."""
    return np.asarray(audio / np.float32(32767), np.float32)


def open_sound(folder: Path) -> Bank:
    """Open a bank without codes. Raises ModelMissingError where no bank is."""
    if not (folder / "utterances.json").is_file():
        raise ModelMissingError(f"{folder}: no utterances yet; make them with: edge mini data")
    audio = np.load(folder / "audio.npy", mmap_mode="r")
    rows = json.loads((folder / "utterances.json").read_text(encoding="utf-8"))
    return Bank(audio, tuple(Utterance(**row) for row in rows), np.zeros((0, 0), np.int16))


def open_bank(folder: Path, codec_name: str, encode: Encode, progress: Progress) -> Bank:
    """Open a bank with the codes of a codec, encoding what that codec has not yet seen.

    encode: float32 (samples,) of whole frames, alone, to codes (8, frames). codec_name: tells
    codecs apart, such as a hash. Raises ModelMissingError where no bank is.
    """
    bank = open_sound(folder)
    path = folder / f"codes-{codec_name}.npy"
    if not path.is_file():
        parts = []
        for done, u in enumerate(bank.utterances):
            parts.append(encode(bank.sound_of(u)).astype(np.int16))
            progress(done + 1, len(bank.utterances))
        with atomic_path(path) as part, part.open("wb") as file:
            np.save(file, np.concatenate(parts, 1))
    return replace(bank, codes=np.load(path))
