"""`edge mini eval`, the model's half: questions asked, interruptions made, rooms left silent.

Everything goes through the duplex engine, frame by frame, as a user meets it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.frame import FRAME_MS, FRAME_SAMPLES, Frame, Pcm
from export.mini import effects, intents
from export.mini.bank import Bank, Utterance
from export.mini.evaluate import Judge
from export.mini.metrics import word_errors, words_of
from runtime.engines.duplex import DuplexEngine
from runtime.engines.engine import Context

Progress = Callable[[str, int, int], None]

_SPEAKS_RMS = 10 ** (-45 / 20)
_LISTEN_FRAMES = 45  # after the user's last word
_SPLITS = ("train", "new phrasing", "new voice", "new phrasing and voice")


@dataclass(frozen=True, slots=True)
class Heard:
    """What came back: text by frame, sound (frames * 1920,), ms of every step."""

    texts: tuple[str, ...]
    pcm: Pcm
    step_ms: tuple[float, ...]

    @property
    def text(self) -> str:
        """The inner text as a whole."""
        return "".join(self.texts).strip()

    def loud(self) -> list[bool]:
        """For each frame, whether the assistant's voice sounds."""
        frames = self.pcm.reshape(-1, FRAME_SAMPLES)
        return [bool(np.sqrt(np.mean(frame**2)) > _SPEAKS_RMS) for frame in frames]


def listen(engine: DuplexEngine, pcm: Pcm, *, seed: int = 0) -> Heard:
    """A conversation of its own with this microphone, whole frames of it."""
    state = engine.start(seed=seed, context=Context())
    texts, sound, times = [], [], []
    try:
        for index, frame in enumerate(pcm.reshape(-1, FRAME_SAMPLES)):
            began = time.perf_counter()
            state, reply = engine.step(state, Frame(index, 0, frame))
            times.append(1000 * (time.perf_counter() - began))
            texts.append(reply.text)
            sound.append(reply.pcm)
    finally:
        engine.finish(state)
    return Heard(tuple(texts), np.concatenate(sound), tuple(times))


def answers_report(
    engine: DuplexEngine, bank: Bank, judge: Judge, progress: Progress, *, n_each: int = 60
) -> dict[str, Any]:
    """Right answers by split, the reply's delay, and its sound against its inner text."""
    replies = {u.key: u.text for u in bank.of("reply")}
    report: dict[str, Any] = {}
    delays: list[int] = []
    errors, total, silent = 0, 0, 0
    first_list = {ask for intent in intents.all_intents() for ask in intent.asks}
    for split in _SPLITS:
        asked = _spread(_examined(bank, split), n_each)
        right_text = right_sound = 0
        of_first: list[bool] = []
        mistakes: Counter[str] = Counter()
        for done, u in enumerate(asked):
            tail = np.zeros(_LISTEN_FRAMES * FRAME_SAMPLES, np.float32)
            heard = listen(engine, np.concatenate([bank.sound_of(u), tail]))
            said = judge.words(heard.pcm)
            right = words_of(heard.text) == words_of(replies[u.key])
            right_text += right
            right_sound += words_of(said) == words_of(replies[u.key])
            if u.text in first_list:
                of_first.append(right)
            if not right:
                mistakes[f"{u.key}: {heard.text}"] += 1
            missed, n = word_errors(heard.text, said)
            errors, total = errors + missed, total + n
            started = [i for i, loud in enumerate(heard.loud()) if loud and i >= u.first_word]
            silent += not started
            if started:
                delays.append(FRAME_MS * (started[0] - u.last_word))
            progress(f"answers, {split}", done + 1, len(asked))
        n = max(1, len(asked))
        report[split] = {"n": len(asked), "right_by_text": right_text / n,
                         "right_by_sound": right_sound / n,
                         "of_first_list": _share(of_first),
                         "mistakes": dict(mistakes.most_common(8))}  # fmt: skip
    report["reply_wer_to_inner_text"] = errors / max(1, total)
    report["starts_after_ms_p50"] = float(np.median(delays)) if delays else None
    report["no_reply"] = silent
    return report


def _examined(bank: Bank, split: str) -> list[Utterance]:
    """Questions of a split without what is only practised: an examination stays what it was."""
    listed = {(intent.key, ask) for intent in intents.all_intents() for ask in intent.every}
    return [u for u in bank.of("ask", split) if (u.key, u.text) in listed]


def _share(right: Sequence[bool]) -> dict[str, Any]:
    """How many of the questions were phrasings of the intents' first lists, and right ones."""
    return {"n": len(right), "right_by_text": sum(right) / max(1, len(right))}


def follow_up_report(
    engine: DuplexEngine, bank: Bank, progress: Progress, *, n: int = 20
) -> dict[str, Any]:
    """Ask for "say that again" and "what did I just say" in held-out words, after a question.

    Right is the inner text of the second reply, counted where the first was right.
    """
    replies = {u.key: u.text for u in bank.of("reply")}
    recalls = {u.key: u.text for u in bank.of("recall")}
    report: dict[str, Any] = {}
    for control, wanted in ((intents.AGAIN, replies), (intents.RECALL, recalls)):
        words = [u for u in bank.of("control", "held-out") if u.key == control.key]
        asks = _spread([u for u in _examined(bank, "train") if u.key in wanted], n if words else 0)
        right = asked = 0
        for done, ask in enumerate(asks):
            word = words[done % len(words)]
            begin = ask.n_frames + _LISTEN_FRAMES
            wait = np.zeros(_LISTEN_FRAMES * FRAME_SAMPLES, np.float32)
            pcm = np.concatenate([bank.sound_of(ask), wait, bank.sound_of(word), wait])
            texts = listen(engine, pcm).texts
            first, second = "".join(texts[:begin]), "".join(texts[begin:])
            if words_of(first) == words_of(replies[ask.key]):
                asked += 1
                right += words_of(second) == words_of(wanted[ask.key])
            progress(f"follow-ups, {control.key}", done + 1, len(asks))
        report[control.key] = {"n": asked, "right_by_text": right / asked if asked else None}
    return report


def interruption_report(
    engine: DuplexEngine, bank: Bank, progress: Progress, *, n: int = 20
) -> dict[str, Any]:
    """From the first frame of "stop" over a reply to the assistant's silence, in ms.

    Only replies that were still sounding when the interruption came are counted.
    """
    long = {u.key for u in bank.of("reply") if u.last_word >= 14}
    asks = _spread([u for u in _examined(bank, "train") if u.key in long], n)
    stops = [u for u in bank.of("control", "train") if u.key == intents.STOP.key]
    waits = []
    for done, ask in enumerate(asks):
        stop = stops[done % len(stops)]
        begin = ask.last_word + 9  # the reply is five frames old
        pcm = np.zeros(((begin + stop.n_frames + 40) * FRAME_SAMPLES,), np.float32)
        pcm[: ask.n_frames * FRAME_SAMPLES] = bank.sound_of(ask)
        at = (begin - stop.first_word) * FRAME_SAMPLES
        pcm[at : at + stop.n_frames * FRAME_SAMPLES] += bank.sound_of(stop)
        loud = listen(engine, np.clip(pcm, -1, 1)).loud()
        if any(loud[begin - 3 : begin + 1]):
            quiet = next(
                (i for i in range(begin, len(loud)) if not any(loud[i : i + 4])), len(loud)
            )
            waits.append(FRAME_MS * (quiet - begin))
        progress("interruptions", done + 1, len(asks))
    return {"n": len(waits), "stops_after_ms_p50": float(np.median(waits)) if waits else None}


def silence_report(engine: DuplexEngine, progress: Progress, *, minutes: float) -> dict[str, Any]:
    """How often it begins to speak though nobody does: silence, then each noise, equally long."""
    kinds = ["silence", *effects.NOISES]
    n_frames = max(1, round(minutes * 60_000 / FRAME_MS / len(kinds)))
    found: dict[str, int] = {}
    for done, kind in enumerate(kinds):
        pcm = np.zeros(n_frames * FRAME_SAMPLES, np.float32)
        if kind != "silence":
            rng = np.random.default_rng(done)
            pcm = 10 ** (-45 / 20) * effects.noise(kind, rng, len(pcm))
        loud = listen(engine, pcm).loud()
        found[kind] = sum(now and not any(loud[max(0, i - 6) : i]) for i, now in enumerate(loud))
        progress("silent rooms", done + 1, len(kinds))
    return {"minutes": minutes, "false_starts": sum(found.values()), "by_kind": found}


def step_report(engine: DuplexEngine, n_frames: int = 400) -> dict[str, Any]:
    """Times of a whole step: encode, model, decode."""
    rng = np.random.default_rng(0)
    pcm = (0.05 * rng.standard_normal(n_frames * FRAME_SAMPLES)).astype(np.float32)
    times = listen(engine, pcm).step_ms[20:]
    return {f"p{q}": float(np.percentile(times, q)) for q in (50, 95, 99)}


def _spread(utterances: Sequence[Utterance], n: int) -> list[Utterance]:
    """At most n of them, evenly over the list."""
    if len(utterances) <= n:
        return list(utterances)
    return [utterances[i * len(utterances) // n] for i in range(n)]
