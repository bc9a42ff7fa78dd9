"""A voice against its float model, over sentences: with the float model's timing, then freely.

With timing and pitch track held, both say the same sounds at the same moments with the same
excitation, so their samples can be compared: the least change of pitch would become one of phase.
Left free, each is judged as it would be heard: scores, words, speaker, pitch and length.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.frame import SAMPLE_RATE_HZ
from edge.lock import read_lock
from edge.store import ModelStore
from quant.measure.cache import Cache
from quant.measure.ears import Ears, Options, changes
from quant.measure.hold import holding, showing
from quant.measure.listen import Listener
from quant.measure.rows import Row
from quant.measure.speech import Speech, Utterance
from quant.measure.workers import Handler
from quant.quality.waves import median_pitch_hz
from runtime.backends.ort import Session, open_session
from runtime.models.tts import VoiceParts

Float32 = NDArray[np.float32]

VOICE_GATES = (
    "pesq", "mel_db", "pause_rise_db", "dnsmos_change", "plcmos_change", "speaker", "wer_change",
    "duration_change", "pitch_change",
)  # fmt: skip
_PITCH = "f0"  # the output that drives the oscillator
VOICE_NOTES = (
    "one synthetic voice: intervals are over sentences, and say nothing of other voices",
    "PESQ, log-mel and pauses with the float model's timing and pitch track, all else left free",
)


def sentences(folder: Path | None = None) -> Speech:
    """The sentences that a voice is measured on, as clips without sound; one a line."""
    path = folder or Path(__file__).with_name("sentences.txt")
    lines = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    found = []
    for i, line in enumerate(lines, 1):
        digest = hashlib.sha256(line.encode()).hexdigest()
        name = f"sentence-{i:02d}"
        found.append(Utterance(name, path, name, digest, line, synthetic=True))
    return Speech(path.parent, tuple(found), unit="sentences")


def make_voice_handler(reference: str, options: Options, cache_folder: str) -> Handler:
    """For workers: a job is (candidate's graph, sentence)."""
    return _VoiceMeasurer(Path(reference), options, Path(cache_folder)).measure


class _Arm:
    """One network: free, and with lengths from outside."""

    def __init__(self, path: Path) -> None:
        shown, self.name = showing(path)
        held, _ = holding(path)
        self.free: Session = open_session(shown, name=path.name)
        self.held: Session = open_session(held, name=path.name)


class _VoiceMeasurer:
    def __init__(self, reference: Path, options: Options, cache_folder: Path) -> None:
        store = ModelStore(read_lock())
        self._parts = VoiceParts(store.files("hibari-heart"))
        self._arms = {str(reference): _Arm(reference)}
        self._reference = str(reference)
        self._ears = Ears(options)
        self._cache = Cache(cache_folder)
        self._listener = Listener(self._ears, self._cache, rate_hz=SAMPLE_RATE_HZ)

    def measure(self, job: tuple[str, Utterance]) -> Row:
        path, one = job
        if path not in self._arms:
            self._arms[path] = _Arm(Path(path))
        ours, theirs = self._arms[path], self._arms[self._reference]
        free = {
            "reference": self._speak(theirs, one.text),
            "candidate": self._speak(ours, one.text),
        }
        held = self._speak(ours, one.text, held=free["reference"])
        ref, cand = free["reference"]["pcm"], free["candidate"]["pcm"]
        metrics = self._ears.aligned(ref, held["pcm"], rate_hz=SAMPLE_RATE_HZ)
        sounds = {"reference": ref, "candidate": cand}
        alone = {arm: self._listener.alone(pcm) for arm, pcm in sounds.items()}
        metrics |= changes(
            alone["reference"], alone["candidate"], ("dnsmos", "dnsmos_p808", "plcmos")
        )
        metrics["speaker"] = self._ears.same_speaker(ref, cand, rate_hz=SAMPLE_RATE_HZ)
        metrics["duration_change"] = abs(len(cand) / max(1, len(ref)) - 1)
        pitch = [median_pitch_hz(pcm, SAMPLE_RATE_HZ) for pcm in (ref, cand)]
        if pitch[0] > 0:
            metrics["pitch_change"] = abs(pitch[1] / pitch[0] - 1)
        key = (one.sha256, hashlib.sha256(ref.tobytes() + held["pcm"].tobytes()).hexdigest())
        return Row(
            one.name,
            one.speaker,
            len(ref) / SAMPLE_RATE_HZ,
            metrics={name: value for name, value in metrics.items() if not np.isnan(value)},
            counts=self._listener.word_errors(sounds, text=one.text),
            facts={f"{arm}.{k}": v for arm, found in alone.items() for k, v in found.items()}
            | {"reference.pitch_hz": pitch[0], "candidate.pitch_hz": pitch[1]},
            sounds={
                "reference": self._cache.sound(("voice reference", *key), ref),
                "candidate": self._cache.sound(("voice candidate", *key), held["pcm"]),
            },
            timing={arm: float(found["work"]) for arm, found in free.items()},
            missing=self._ears.missing,
        )

    def _speak(self, arm: _Arm, text: str, held: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """pcm, lengths and pitch of each phrase, processor seconds of the network per second.

        held: another arm's result, whose lengths and pitch are taken.
        """
        sounds, lengths, pitches, worked_s = [], [], [], 0.0
        for i, ids in enumerate(self._parts.phrases(text)):
            feeds: dict[str, NDArray[Any]] = {"ids": ids, "speed": np.ones(1, np.float32)}
            session = arm.free
            if held is not None:
                session, feeds[arm.name] = arm.held, held["lengths"][i]
            began_s = time.process_time()
            out: dict[str, NDArray[Any]] = session.run(feeds)
            worked_s += time.process_time() - began_s
            lengths.append(out.pop(arm.name, np.zeros(0, np.float32)))
            pitches.append(out.get(_PITCH))
            if held is not None and pitches[-1] is not None:
                out[_PITCH] = held["pitches"][i]
            sounds.append(self._parts.sound(list(out.values()), seed=0))
        pcm = np.concatenate(sounds) if sounds else np.zeros(1, np.float32)
        return {
            "pcm": pcm,
            "lengths": lengths,
            "pitches": pitches,
            "work": worked_s / max(0.01, len(pcm) / SAMPLE_RATE_HZ),
        }
