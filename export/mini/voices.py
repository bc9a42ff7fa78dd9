"""The people of the training data: text in, 24 kHz speech out, by programs that run offline.

The assistant has one voice, the starter voice. Users are everybody else: espeak-ng and its
variants, the voices of flite and festival (Debian packages), and the starter voice bent in pitch
and speed. The programs are run as commands and never linked or shipped; what they say is data.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.errors import MissingPackageError, UsageError
from edge.frame import SAMPLE_RATE_HZ, Pcm
from edge.resample import Resampler
from edge.wav import read_mono
from runtime.models.tts import Voice, trim

ASSISTANT = "hibari-heart"
_LOUDNESS_DB = -24.0
_TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Speaker:
    """One voice of the data. name: engine:voice[+variant]; pitch: factor of pitch and formants."""

    name: str
    engine: str
    voice: str
    pitch: float = 1.0
    held_out: bool = False


def _espeak(voice: str, *, held_out: bool = False) -> Speaker:
    return Speaker(f"espeak:{voice}", "espeak", voice, held_out=held_out)


# Held-out voices differ in engine and in accent; no sample of them is ever trained on.
SPEAKERS: tuple[Speaker, ...] = (
    *(
        _espeak(voice)
        for voice in (
            "en-us", "en-us+m3", "en-us+m7", "en-us+f2", "en-us+f4", "en-us+f5", "en-us+Annie",
            "en-us+Michael", "en-us+klatt4", "en-gb", "en-gb-x-rp+m1", "en-gb-scotland+f3",
            "en-gb-scotland", "en-gb-x-rp", "en-gb-x-rp+Alicia", "en-029", "en-us-nyc",
            "en-us+f1", "en-us-nyc+m2",
        )
    ),
    _espeak("en-gb-x-gbclan", held_out=True),
    _espeak("en-us+Andrea", held_out=True),
    Speaker("flite:rms", "flite", "rms"),
    Speaker("flite:slt", "flite", "slt"),
    Speaker("flite:kal16", "flite", "kal16"),
    Speaker("flite:awb", "flite", "awb", held_out=True),
    Speaker("festival:slt", "festival", "cmu_us_slt_arctic_hts"),
    Speaker("festival:ked", "festival", "ked_diphone"),
    Speaker("festival:kal", "festival", "kal_diphone", held_out=True),
    Speaker("heart:low", "hibari", "heart", 0.84),
    Speaker("heart:high", "hibari", "heart", 1.16),
    Speaker("heart:deep", "hibari", "heart", 0.74),
    Speaker("heart:child", "hibari", "heart", 1.28),
)  # fmt: skip


class Studio:
    """Speaks as any speaker; holds the loaded starter voice."""

    def __init__(self, heart: Voice) -> None:
        self._heart = heart

    def assistant(self, text: str, *, seed: int) -> Pcm:
        """The assistant says text: float32 (n,), 24 kHz, silence at both ends cut."""
        return levelled(self._heart.speak(text, seed=seed).pcm)

    def say(self, speaker: Speaker, text: str, *, seed: int) -> Pcm:
        """A user says text, speed drawn from the seed; float32 (n,), 24 kHz, cut and levelled.

        Raises MissingPackageError where the speaker's program is not installed, UsageError where
        it fails.
        """
        speed = float(np.random.default_rng(seed).uniform(0.85, 1.2))
        if speaker.engine == "hibari":
            # Resampling changes speed with pitch; the voice is asked to undo that beforehand.
            pcm = self._heart.speak(text, seed=seed, speed=speed / speaker.pitch).pcm
            pcm = converted(pcm, round(SAMPLE_RATE_HZ * speaker.pitch))
        else:
            pcm = _spoken(speaker, text, speed)
        return levelled(trim(levelled(pcm)))


def converted(pcm: Pcm, rate_hz: int) -> Pcm:
    """Samples of one rate as 24 kHz."""
    return Resampler(rate_hz, SAMPLE_RATE_HZ).push(np.ascontiguousarray(pcm), last=True)


def levelled(pcm: Pcm) -> Pcm:
    """The same speech at -24 dB of full scale (mean power of what is not silence)."""
    loud = pcm[np.abs(pcm) > 10 ** (-50 / 20)]
    if not loud.size:
        return pcm
    gain = 10 ** (_LOUDNESS_DB / 20) / float(np.sqrt(np.mean(loud**2)))
    return np.asarray(np.clip(pcm * gain, -1, 1), np.float32)


def installed(speakers: tuple[Speaker, ...] = SPEAKERS) -> tuple[Speaker, ...]:
    """Those whose program is on this machine."""
    return tuple(s for s in speakers if s.engine == "hibari" or shutil.which(_PROGRAMS[s.engine]))


_PROGRAMS = {"espeak": "espeak-ng", "flite": "flite", "festival": "text2wave"}


def _spoken(speaker: Speaker, text: str, speed: float) -> Pcm:
    """Run the speaker's program and read what it wrote."""
    if speaker.engine not in _PROGRAMS:
        raise UsageError(f"no program is known that speaks as {speaker.name}")
    program = shutil.which(_PROGRAMS[speaker.engine])
    if program is None:
        raise MissingPackageError(
            _PROGRAMS[speaker.engine], extra="export", needed_for=f"the voice {speaker.name}"
        )
    with tempfile.TemporaryDirectory(prefix="edge-mini-") as name:
        wav, words = Path(name) / "said.wav", Path(name) / "text.txt"
        words.write_text(text, encoding="utf-8")
        command = {
            "espeak": [program, "-v", speaker.voice, "-s", str(round(165 * speed)),
                       "-w", str(wav), "-f", str(words)],
            "flite": [program, "-voice", speaker.voice, "--setf", f"duration_stretch={1 / speed}",
                      "-f", str(words), "-o", str(wav)],
            "festival": [program, "-eval", f"(voice_{speaker.voice})",
                         "-eval", f"(Parameter.set 'Duration_Stretch {1 / speed})",
                         "-o", str(wav), str(words)],
        }[speaker.engine]  # fmt: skip
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
        if done.returncode or not wav.is_file() or wav.stat().st_size < 1000:
            reason = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise UsageError(f"{program} did not speak as {speaker.name}: {' '.join(reason)}")
        return read_mono(wav, SAMPLE_RATE_HZ)
