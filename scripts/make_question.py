"""Speak the question that `edge demo` asks, with the starter voice, into apps/assets/question.flac.

Run it again only when the voice changes: python scripts/make_question.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from edge.frame import SAMPLE_RATE_HZ
from edge.lock import read_lock
from edge.store import ModelStore
from runtime.models.tts import Voice

_TEXT = "What is the capital of France?"
_OUT = Path(__file__).resolve().parents[1] / "apps" / "assets" / "question.flac"


def main() -> None:
    """Write the file."""
    voice = Voice(ModelStore(read_lock()).files("hibari-heart"))
    lead = np.zeros(SAMPLE_RATE_HZ // 2, np.float32)
    sound = np.concatenate([lead, 0.8 * voice.speak(_TEXT, seed=0).pcm])
    soundfile.write(_OUT, sound, SAMPLE_RATE_HZ, subtype="PCM_16")
    print(f"{_OUT.name}: {len(sound) / SAMPLE_RATE_HZ:.1f} s of synthesised speech")


if __name__ == "__main__":
    main()
