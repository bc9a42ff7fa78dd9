"""The canceller put to the test: the assistant's voice in a made room, alone and with a talker.

For `edge bench` and the tests; what it returns is plain JSON.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.errors import UsageError
from edge.frame import FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm
from edge.resample import Resampler
from runtime.sound.levels import from_db, speech_rms, to_db
from runtime.sound.lines import Room, through_room

_EAR_RATE_HZ = 16_000
_CHUNK_SAMPLES = 512
_CHUNK_MS = 32
SPEECH_P = 0.5
_FLOOR_DB = -65.0
_TALKER = 0.06  # RMS of speech, -24 dBFS
_FIRST_TALK_S = 4.5
# A sentence not noticed after this long counts as missed.
_PATIENCE_CHUNKS = 50
_CONVERGED_DB = 12.0
_SETTLED_FRAMES = 5


class Canceller(Protocol):
    """What is tested."""

    def process(self, near: Pcm, far: Pcm) -> Pcm:
        """One frame each, float32 (1920,), to one frame."""


class Vad(Protocol):
    """One listener, fresh for each recording."""

    def probability(self, chunk: Pcm) -> float:
        """Speech probability of float32 (512,), 16 kHz."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One trial's conditions.

    room: from loudspeaker to microphone. louder: the echo's level over the talker's.
    talker_db: the talker's level, 0 is -24 dBFS; the echo's does not change with it.
    """

    room: Room
    louder: float = 1.5
    talker_db: float = 0.0


def echo_trial(
    make: Callable[[], Canceller],
    vad: Callable[[], Vad],
    *,
    assistant: Pcm,
    sentences: Sequence[Pcm],
    setting: Setting,
) -> dict[str, object]:
    """Run a canceller over the assistant alone, then over the assistant and a talker.

    assistant: float32 (n,), some 20 s or more of speech. sentences: the talker's, a second or two
    each, spaced evenly over it from 4.5 s on. Returns among others: alone_percent (chunks of the
    echo taken for speech), raw_percent (without canceller), erle_db of 0-2 s and later,
    converged_ms, onset_chunks (by how many 32 ms chunks each sentence's first two chunks of speech
    in a row come later than without echo; None where they never came), heard_percent (of the
    talker's chunks), frame_ms (median, processor time). Raises UsageError.
    """
    if len(assistant) < 10 * SAMPLE_RATE_HZ:
        raise UsageError("the trial needs at least 10 s of the assistant's speech")
    whole = np.zeros(-(-len(assistant) // FRAME_SAMPLES) * FRAME_SAMPLES, np.float32)
    whole[: len(assistant)] = assistant
    alone_in_room = heard_at(whole, setting)
    hiss = _hiss(len(whole), setting.room.seed)
    talk, starts = _conversation(sentences, len(whole), _TALKER * from_db(setting.talker_db))

    alone, frame_ms = _run(make(), alone_in_room, whole)
    both, _ = _run(make(), alone_in_room + talk, whole)
    return {
        "setting": asdict(setting),
        "raw_percent": round(100 * float(np.mean(_heard(vad(), alone_in_room))), 2),
        "alone_percent": round(100 * float(np.mean(_heard(vad(), alone))), 2),
        **_erle(alone_in_room, alone),
        **_onsets(_heard(vad(), talk + hiss), _heard(vad(), both), starts),
        "frame_ms": round(frame_ms, 2),
    }


def acceptance(
    make: Callable[[], Canceller],
    vad: Callable[[], Vad],
    *,
    assistant: Pcm,
    sentences: Sequence[Pcm],
    delays_ms: Sequence[float] = (40, 100, 200, 300, 400),
) -> dict[str, object]:
    """The trial over a range of delays in a room of 150 ms with 50 ppm of drift.

    Returns {"trials": [...], "worst_alone_percent", "median_onset_chunks"}.
    """
    trials = [
        echo_trial(
            make,
            vad,
            assistant=assistant,
            sentences=sentences,
            setting=Setting(Room(delay_ms=delay_ms, drift_ppm=50, seed=index)),
        )
        for index, delay_ms in enumerate(delays_ms)
    ]
    return {
        "trials": trials,
        "worst_alone_percent": max(float(str(t["alone_percent"])) for t in trials),
        "median_onset_chunks": median(float(str(t["median_onset_chunks"])) for t in trials),
    }


def heard_at(far: Pcm, setting: Setting) -> Pcm:
    """What the microphone gives while nobody but the assistant is heard, with some hiss."""
    echo = through_room(far, setting.room)
    echo = (echo * np.float32(setting.louder * _TALKER / speech_rms(echo))).astype(np.float32)
    return echo + _hiss(len(far), setting.room.seed)


def _hiss(n_samples: int, seed: int) -> Pcm:
    hiss = np.random.default_rng(seed + 1).standard_normal(n_samples, np.float32)
    return hiss * np.float32(from_db(_FLOOR_DB))


def _conversation(sentences: Sequence[Pcm], n_samples: int, level: float) -> tuple[Pcm, list[int]]:
    """The talker's track, and where each sentence begins in it."""
    talk = np.zeros(n_samples, np.float32)
    longest = max((len(s) for s in sentences), default=0)
    first = round(_FIRST_TALK_S * SAMPLE_RATE_HZ)
    room = n_samples - first - longest
    if room < 0:
        raise UsageError("the assistant's speech is too short for these sentences")
    starts = [first + round(room * k / max(1, len(sentences) - 1)) for k in range(len(sentences))]
    for start, sentence in zip(starts, sentences, strict=True):
        talk[start : start + len(sentence)] += sentence * np.float32(level / speech_rms(sentence))
    return talk, starts


def _run(canceller: Canceller, near: Pcm, far: Pcm) -> tuple[Pcm, float]:
    """All frames through it; also the median processor time of a frame in milliseconds."""
    out = np.empty_like(near)
    spent_ns: list[int] = []
    for at in range(0, len(near), FRAME_SAMPLES):
        frame = slice(at, at + FRAME_SAMPLES)
        began_ns = time.thread_time_ns()
        out[frame] = canceller.process(near[frame], far[frame])
        spent_ns.append(time.thread_time_ns() - began_ns)
    return out, median(spent_ns) / 1e6


def _heard(vad: Vad, pcm: Pcm) -> NDArray[np.bool_]:
    """Which 32 ms chunks are taken for speech."""
    return np.array([vad.probability(c) >= SPEECH_P for c in _chunks(pcm)])


def _chunks(pcm: Pcm) -> Iterator[Pcm]:
    ear = Resampler(SAMPLE_RATE_HZ, _EAR_RATE_HZ).push(pcm, last=True)
    for at in range(0, len(ear) - _CHUNK_SAMPLES + 1, _CHUNK_SAMPLES):
        yield ear[at : at + _CHUNK_SAMPLES]


def _erle(near: Pcm, out: Pcm) -> dict[str, object]:
    """Echo taken away in the first 2 s and later, and when 0.4 s were first 12 dB down."""
    near_db, out_db = (
        np.array([to_db(float(np.sqrt(p))) for p in np.mean(x.reshape(-1, FRAME_SAMPLES) ** 2, 1)])
        for x in (near, out)
    )
    gone_db, loud = near_db - out_db, near_db > _FLOOR_DB + 25
    n_early = 2_000 // FRAME_MS
    good = [
        index
        for index in np.flatnonzero(loud)
        if float(np.median(gone_db[index:][loud[index:]][:_SETTLED_FRAMES])) >= _CONVERGED_DB
    ]
    first = int(np.flatnonzero(loud)[0]) if loud.any() else 0
    return {
        "erle_early_db": round(float(np.median(gone_db[first : first + n_early])), 1),
        "erle_db": round(float(np.median(gone_db[first + n_early :][loud[first + n_early :]])), 1),
        "converged_ms": (int(good[0]) - first) * FRAME_MS if good else None,
    }


def _onsets(
    clear: NDArray[np.bool_], heard: NDArray[np.bool_], starts: Sequence[int]
) -> dict[str, object]:
    """How late each sentence was noticed, and how much of it, against no echo at all."""
    late: list[int | None] = []
    parts: list[float] = []
    for start in starts:
        first = start * 1_000 // SAMPLE_RATE_HZ // _CHUNK_MS
        ideal = _second_in_a_row(clear, first)
        found = _second_in_a_row(heard, first)
        if ideal is None:
            continue
        late.append(None if found is None else found - ideal)
        spoken = np.flatnonzero(clear[first : first + _PATIENCE_CHUNKS]) + first
        parts.append(float(np.mean(heard[spoken])))
    known = [float("inf") if n is None else float(n) for n in late]
    middle = median(known) if known else float("inf")
    return {
        "onset_chunks": late,
        "median_onset_chunks": middle if middle != float("inf") else _PATIENCE_CHUNKS,
        "heard_percent": round(100 * float(np.mean(parts)), 1) if parts else 0.0,
    }


def _second_in_a_row(speech: NDArray[np.bool_], first: int) -> int | None:
    """Index of the second of the first two chunks of speech in a row from `first` on."""
    for index in range(first + 1, min(first + _PATIENCE_CHUNKS, len(speech))):
        if speech[index] and speech[index - 1]:
            return index
    return None
