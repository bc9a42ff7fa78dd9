"""The utterances that conversations are made of: everything users ask and the assistant says.

Sound is made once and kept, in parts: a bank grows when more is to be said. Codes are made from it
with a codec and kept beside it under that codec's name, so a better codec only costs a second
encoding.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.atomic import atomic_path
from edge.errors import ModelMissingError, UsageError
from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm
from edge.paths import make_dir
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
    split: of phrasing, voice and noise together. first_frame: counted over all parts of the bank.
    first_word, last_word: the frames where speech begins and ends, from the piece's own start.
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
    """An opened bank. audio: of each part, int16 (n,), mapped; codes: of all, int16 (8, frames)."""

    audio: tuple[NDArray[np.int16], ...]
    utterances: tuple[Utterance, ...]
    codes: NDArray[np.int16]

    def of(self, kind: str, split: str | None = None) -> list[Utterance]:
        """All utterances of a kind."""
        return [u for u in self.utterances if u.kind == kind and split in (None, u.split)]

    def audio_of(self, utterance: Utterance) -> NDArray[np.int16]:
        """Its samples as they are kept, int16 (n_frames * 1920,)."""
        start = utterance.first_frame * FRAME_SAMPLES
        for part in self.audio:
            if start < len(part):
                return part[start : start + utterance.n_frames * FRAME_SAMPLES]
            start -= len(part)
        raise UsageError(f"the bank has no sound for {utterance.kind} {utterance.key}")

    def sound_of(self, utterance: Utterance) -> Pcm:
        """Its samples, float32 (n_frames * 1920,)."""
        return as_float(self.audio_of(utterance))

    def codes_of(self, utterance: Utterance) -> NDArray[np.int16]:
        """(8, n_frames)."""
        first = utterance.first_frame
        return self.codes[:, first : first + utterance.n_frames]


@dataclass(frozen=True, slots=True)
class BankPlan:
    """How much to say. voices_per_ask: how many users ask each phrasing; voices_per_practice: each
    of those that are only trained on, which are many.

    per_part: voices' utterances in a part, which is written as a whole or not at all.
    bends: every trained user utterance is there again for each of them, faster or slower and with
    that higher or lower by a factor from the range: more voices than are installed.
    """

    seed: int = 7
    voices_per_ask: int = 16
    voices_per_practice: int = 4
    voices_per_control: int = 16
    held_out_voices_per_ask: int = 2
    validation_voices_per_ask: int = 4
    back_channel_voices: int = 8
    per_part: int = 400
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
    """Write the sound that a bank lacks, part by part; what is there already is left alone.

    Held-out phrasings are asked by voices of training, and trained phrasings by held-out voices,
    all without noise, so that each can be asked for by itself; noises come in both kinds. What
    users of training say comes in no order, so that the first parts hold something of everything.
    """
    jobs = _missing(wanted, plan, _said(folder))
    n_parts = len(list(folder.glob("part-???")))
    for number, start in enumerate(range(0, len(jobs), plan.per_part)):
        maker = _Maker(studio, plan)
        for place, job in enumerate(jobs[start : start + plan.per_part]):
            maker.add(*job)
            progress(start + place + 1, len(jobs))
        with atomic_path(make_dir(folder) / f"part-{n_parts + number:03d}") as part:
            part.mkdir(parents=True)
            np.save(part / "audio.npy", np.concatenate(maker.pieces))
            rows = [asdict(utterance) for utterance in maker.utterances]
            (part / "utterances.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder


Job = tuple[str, str, str, "voices.Speaker | None", str]
Said = dict[tuple[str, str, str, str], set[str]]


def _said(folder: Path) -> Said:
    """Who has said what in a bank already, bent voices under the name of the one they bend."""
    said: Said = {}
    for u in open_sound(folder).utterances if _parts(folder) else ():
        said.setdefault((u.kind, u.key, u.text, u.split), set()).add(u.speaker.split(" ")[0])
    return said


def _missing(wanted: Sequence[intents.Intent], plan: BankPlan, said: Said) -> list[Job]:
    """(kind, key, text, speaker, split) of everything that is not said yet."""
    people = {flag: [s for s in voices.installed() if s.held_out == flag] for flag in (False, True)}
    first: list[Job] = []
    users: list[Job] = []
    for kind, key, text, split, n in _plan(wanted, plan):
        known = said.get((kind, key, text, split), set())
        group = people["voice" in split]
        if n == 0:
            first += [] if known else [(kind, key, text, None, split)]
            continue
        order = np.random.default_rng((plan.seed, _number(kind, key, text))).permutation(len(group))
        new = [group[i] for i in order if group[i].name not in known]
        jobs = [(kind, key, text, who, split) for who in new[: max(0, n - len(known))]]
        (users if split == "train" else first).extend(jobs)
    some = np.random.default_rng(plan.seed).permutation(len(users))
    return [*first, *_noises(plan, said), *(users[i] for i in some)]


def _number(*words: str) -> int:
    return zlib.crc32("|".join(words).encode())


def _plan(
    wanted: Sequence[intents.Intent], plan: BankPlan
) -> Iterable[tuple[str, str, str, str, int]]:
    """(kind, key, text, split, how many users say it: 0 for the assistant)."""
    for intent in wanted:
        yield "reply", intent.key, intent.reply, "train", 0
        if intent.key in intents.CORE:
            yield "recall", intent.key, intents.recalled(intent), "train", 0
        for ask in intent.every:
            side = intent.split(ask)
            if side == "train":
                yield "ask", intent.key, ask, "train", plan.voices_per_ask
                yield "ask", intent.key, ask, "new voice", 1
            elif side == "held-out":
                yield "ask", intent.key, ask, "new phrasing", plan.held_out_voices_per_ask
                yield "ask", intent.key, ask, "new phrasing and voice", 1
            else:
                yield "ask", intent.key, ask, "validation", plan.validation_voices_per_ask
    for control in intents.CONTROLS:
        for ask in control.asks:
            yield "control", control.key, ask, control.split(ask), plan.voices_per_control
    for text in intents.BACK_CHANNELS:
        yield "back-channel", "", text, "train", plan.back_channel_voices
    if plan.voices_per_practice:
        yield from _practice(wanted, plan.voices_per_practice)


def _practice(
    wanted: Sequence[intents.Intent], n_voices: int
) -> Iterable[tuple[str, str, str, str, int]]:
    """What _plan gives of the phrasings that are only trained on."""
    for kind, group in (("ask", wanted), ("control", intents.CONTROLS)):
        for intent in group:
            for ask in intent.practised():
                yield kind, intent.key, ask, "train", n_voices


def _noises(plan: BankPlan, said: Said) -> Iterable[Job]:
    if any(kind == "noise" for kind, *_ in said):
        return
    for index in range(plan.n_noises):
        kind = list(effects.NOISES)[index % len(effects.NOISES)]
        split = "held-out" if kind in effects.HELD_OUT_NOISES else "train"
        yield "noise", kind, "", None, split


class _Maker:
    """Collects pieces of sound and what they are."""

    def __init__(self, studio: voices.Studio, plan: BankPlan) -> None:
        self.studio, self.plan = studio, plan
        self.pieces: list[NDArray[np.int16]] = []
        self.utterances: list[Utterance] = []
        self._rng = np.random.default_rng()
        self._frames = 0

    def add(
        self, kind: str, key: str, text: str, speaker: voices.Speaker | None, split: str
    ) -> None:
        """Make one piece and put it at the end."""
        who = speaker.name if speaker else str(len(self.utterances))
        rng = self._rng = np.random.default_rng(
            (self.plan.seed, _number(kind, key, text), _number(who))
        )
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
            said = self.studio.say(speaker, text, seed=int(rng.integers(1 << 30)))
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


def _parts(folder: Path) -> list[Path]:
    """The folders of a bank's parts; one that was made in one piece is its own first part."""
    whole = [folder] if (folder / "utterances.json").is_file() else []
    return whole + sorted(folder.glob("part-???"))


def open_sound(folder: Path) -> Bank:
    """Open a bank without codes. Raises ModelMissingError where no bank is."""
    parts = _parts(folder)
    if not parts:
        raise ModelMissingError(f"{folder}: no utterances yet; make them with: edge mini data")
    audio: list[NDArray[np.int16]] = []
    found: list[Utterance] = []
    n_frames = 0
    for part in parts:
        rows = json.loads((part / "utterances.json").read_text(encoding="utf-8"))
        found += [
            Utterance(**(row | {"first_frame": row["first_frame"] + n_frames})) for row in rows
        ]
        audio.append(np.load(part / "audio.npy", mmap_mode="r"))
        n_frames += len(audio[-1]) // FRAME_SAMPLES
    return Bank(tuple(audio), tuple(found), np.zeros((0, 0), np.int16))


def open_bank(folder: Path, codec_name: str, encode: Encode, progress: Progress) -> Bank:
    """Open a bank with the codes of a codec, encoding what that codec has not yet seen.

    encode: float32 (samples,) of whole frames, alone, to codes (8, frames). codec_name: tells
    codecs apart, such as a hash. Raises ModelMissingError where no bank is.
    """
    bank, codes, end = open_sound(folder), [], 0
    for audio, folder_of_part in zip(bank.audio, _parts(folder), strict=False):
        first, end = end, end + len(audio) // FRAME_SAMPLES
        path = folder_of_part / f"codes-{codec_name}.npy"
        if not path.is_file():
            mine = [u for u in bank.utterances if first <= u.first_frame < end]
            made = []
            for done, u in enumerate(mine):
                made.append(encode(bank.sound_of(u)).astype(np.int16))
                progress(done + 1, len(mine))
            with atomic_path(path) as part, part.open("wb") as file:
                np.save(file, np.concatenate(made, 1))
        codes.append(np.load(path))
    return replace(bank, codes=np.concatenate(codes, 1))
