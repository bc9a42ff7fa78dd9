"""The recogniser's role: speech in, words out. Whisper on windows as short as the speech.

Whisper was trained on 30 s windows, and padding a sentence to that costs ten times the sentence. In
a plain short window it says the sentence again and again, for it has learnt that a text ends where
much silence follows. So only the speech and half a second are encoded, and four seconds of what the
encoder makes of the silence after a voice, computed once, are joined to that: the decoder sees the
silence that it waits for, and the encoder does not work for it.

Source of the weights and of the token format: openai/whisper (MIT).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.errors import ShapeError
from runtime.backends.ct2 import MAX_COLUMNS, MAX_POSITIONS, Decoded, DecodeOptions, WhisperNet
from runtime.models.logmel import EAR_RATE_HZ, HOP_SAMPLES, log_mel, make_mel_plan

Float32 = NDArray[np.float32]
Window = Literal["short", "full"]

_ROW_SAMPLES = 2 * HOP_SAMPLES  # one row of the encoder's output is 20 ms
_FULL_SAMPLES = MAX_COLUMNS * HOP_SAMPLES
_LEAST_SAMPLES = EAR_RATE_HZ // 10
_PAD_SAMPLES = EAR_RATE_HZ // 2
# With 150 rows one in 28 sentences that broke off ran on, with 200 none; each row must be that of
# its own position, and silence that no voice comes before takes 500.
_SILENT_ROWS = 200
_VOICE_HZ = 120.0
# Windows of long speech are cut at the quietest third of a second in their second half.
_LONGEST_SAMPLES = 24 * EAR_RATE_HZ
_BLOCK_SAMPLES = EAR_RATE_HZ // 50
_QUIET_BLOCKS = 15

_SILENCE_PEAK = 1e-4
_TOKENS_PER_S = 8  # fast speech is about 5
_TOKENS_MORE = 8
_BEAM_SIZE = 1
# Measured with the starter model: words, even in as much noise, stay below 0.4; noise, hum, clicks
# and tones are above 0.8, breath is between and scores badly.
_SURELY_NO_SPEECH = 0.65
_PERHAPS_NO_SPEECH = 0.4
_UNLIKELY_SCORE = -1.5
_LOOPED_RATIO = 2.4


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was recognised.

    text: "" where there were no words. avg_logprob: mean log probability of a token.
    no_speech_prob: 0..1, of the window that was surest of words. n_tokens: decoded in all.
    compression_ratio: of what was decoded; above 2.4 it repeated itself.
    """

    text: str
    avg_logprob: float = 0.0
    no_speech_prob: float = 1.0
    n_tokens: int = 0
    compression_ratio: float = 0.0


class SpeechNet(Protocol):
    """A Whisper network, whatever computes it: backends/ct2.py or models/whisper.py."""

    n_mels: int
    multilingual: bool

    def encode(self, features: Float32) -> Float32:
        """Features (n_mels, n) to rows (n // 2, d_model)."""

    def decode(self, encoded: Float32, prompt: Sequence[str], options: DecodeOptions) -> Decoded:
        """Rows to tokens."""


class Recogniser:
    """Loaded weights; no state between calls. Other threads run during a call."""

    def __init__(
        self,
        model: Mapping[str, Path] | SpeechNet,
        *,
        threads: int = 1,
        compute_type: str = "int8",
        language: str = "en",
    ) -> None:
        """model: a CTranslate2 model's verified files by name, or a network that is loaded.

        language: for a model that knows several. Raises ModelDamagedError, DeviceError,
        UsageError, MissingPackageError.
        """
        self._net: SpeechNet = (
            WhisperNet(model, threads=threads, compute_type=compute_type)
            if isinstance(model, Mapping)
            else model
        )
        spoken = [f"<|{language}|>", "<|transcribe|>"] if self._net.multilingual else []
        self._prompt = ["<|startoftranscript|>", *spoken, "<|notimestamps|>"]
        self._plan = make_mel_plan()
        # float32 (1500, d_model): what silence is at each position, from one second on.
        self._silence = self._net.encode(log_mel(self._plan, _voice_then_silence()))

    def warm_up(self) -> None:
        """Recognise once for nobody, so that the first call is as quick as the others."""
        self._window(np.full(EAR_RATE_HZ, _SILENCE_PEAK, np.float32), "short")

    def transcribe(self, pcm_16k: Float32, *, window: Window = "short") -> Transcript:
        """Words in float32 (n,), 16 kHz mono, of any length; sound without words gives "".

        window: "full" pads with zeros to 30 s, as Whisper was trained; it is the reference for
        "short". Raises ShapeError.
        """
        if pcm_16k.ndim != 1 or pcm_16k.dtype != np.float32:
            raise ShapeError("pcm_16k", got=f"{pcm_16k.dtype} {pcm_16k.shape}", want="float32 (n,)")
        peak = float(np.abs(pcm_16k).max(initial=0.0))
        if not np.isfinite(peak):
            raise ShapeError("pcm_16k", got="samples that are no numbers", want="finite float32")
        if pcm_16k.size < _LEAST_SAMPLES or peak < _SILENCE_PEAK:
            return Transcript("")
        return _joined([self._window(piece, window) for piece in pieces(pcm_16k)])

    def _window(self, pcm_16k: Float32, window: Window) -> Transcript:
        options = DecodeOptions(
            _BEAM_SIZE, _TOKENS_MORE + int(_TOKENS_PER_S * pcm_16k.size / EAR_RATE_HZ)
        )
        encoded = self._encoded(pcm_16k, window)
        found = _judged(self._net.decode(encoded, self._prompt, options))
        looped = found.compression_ratio > _LOOPED_RATIO or found.n_tokens >= options.max_tokens
        if looped and window == "short" and found.text:
            return self._window(pcm_16k, "full")
        return found

    def _encoded(self, pcm_16k: Float32, window: Window) -> Float32:
        n_padded = pcm_16k.size + _PAD_SAMPLES
        n_padded += -n_padded % _ROW_SAMPLES
        n_padded = _FULL_SAMPLES if window == "full" else n_padded
        padded = np.zeros(n_padded, np.float32)
        padded[: pcm_16k.size] = pcm_16k
        heard = self._net.encode(log_mel(self._plan, padded))
        end = min(len(heard) + _SILENT_ROWS, MAX_POSITIONS)
        return np.concatenate([heard, self._silence[len(heard) : end]])


def text_of(tokens: Sequence[str]) -> str:
    """The text that byte-level tokens spell, without control tokens and halves of letters.

    Each character of a token stands for a byte: printable ones of Latin-1 for themselves, the other
    68, in order, for U+0100 and on.
    """
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in set(own)]
    byte_of = {chr(byte): byte for byte in own}
    byte_of |= {chr(256 + i): byte for i, byte in enumerate(others)}
    spelt = "".join(t for t in tokens if not (t.startswith("<|") and t.endswith("|>")))
    return bytes(byte_of[c] for c in spelt if c in byte_of).decode("utf-8", "ignore").strip()


def without_echo(text: str) -> str:
    """The text without a second saying of itself: "It is. It is." becomes "It is."."""
    words = text.split()
    plain = [plain_word(word) for word in words]
    for n_first in range(2, len(words)):
        rest = plain[n_first:]
        after_sentence = words[n_first - 1].endswith((".", "?", "!"))
        again = all(word == plain[i % n_first] for i, word in enumerate(rest))
        if again and (after_sentence or len(rest) >= 3):
            return " ".join(words[:n_first])
    return text


def agreed_words(earlier: str, later: str) -> str:
    """The words with which both texts begin, in the later one's spelling.

    Two partial transcripts of a growing utterance agree on what no longer changes.
    """
    kept = []
    for one, other in zip(earlier.split(), later.split(), strict=False):
        if plain_word(one) != plain_word(other):
            break
        kept.append(other)
    return " ".join(kept)


def plain_word(word: str) -> str:
    """A word without capitals and punctuation."""
    return re.sub(r"\W", "", word.casefold())


def pieces(pcm_16k: Float32) -> list[Float32]:
    """float32 (n,) in pieces of at most 24 s, cut where it is quietest; none of it is lost."""
    found = []
    while pcm_16k.size > _LONGEST_SAMPLES:
        start = _LONGEST_SAMPLES // 2
        blocks = pcm_16k[start:_LONGEST_SAMPLES].reshape(-1, _BLOCK_SAMPLES)
        power = np.convolve((blocks**2).sum(axis=1), np.ones(_QUIET_BLOCKS), mode="valid")
        cut = start + (int(np.argmin(power)) + _QUIET_BLOCKS // 2) * _BLOCK_SAMPLES
        found.append(pcm_16k[:cut])
        pcm_16k = pcm_16k[cut:]
    return [*found, pcm_16k]


def _voice_then_silence() -> Float32:
    """One second of a synthetic voice in four syllables and 29 s of silence, float32 (480000,)."""
    t_s = np.arange(EAR_RATE_HZ) / EAR_RATE_HZ
    turn = 2 * np.pi * np.cumsum(_VOICE_HZ + 20 * np.sin(6 * np.pi * t_s)) / EAR_RATE_HZ
    buzz = np.sum([np.sin(k * turn) / k for k in range(1, 25)], axis=0)
    pcm = np.zeros(_FULL_SAMPLES, np.float32)
    pcm[: t_s.size] = 0.1 * buzz * (0.5 - 0.5 * np.cos(8 * np.pi * t_s))
    return pcm


def _judged(decoded: Decoded) -> Transcript:
    """The words, unless they are what the network says when there are none."""
    raw = text_of(decoded.tokens)
    ratio = len(raw.encode()) / len(zlib.compress(raw.encode()))
    sure = decoded.no_speech_prob > _SURELY_NO_SPEECH
    perhaps = decoded.no_speech_prob > _PERHAPS_NO_SPEECH and decoded.score < _UNLIKELY_SCORE
    wordless = sure or perhaps or not any(c.isalnum() for c in raw)
    text = "" if wordless else without_echo(raw)
    return Transcript(text, decoded.score, decoded.no_speech_prob, len(decoded.tokens), ratio)


def _joined(parts: Sequence[Transcript]) -> Transcript:
    """One transcript of windows that follow each other."""
    if len(parts) == 1:
        return parts[0]
    n_tokens = sum(part.n_tokens for part in parts)
    return Transcript(
        " ".join(part.text for part in parts if part.text),
        sum(part.avg_logprob * part.n_tokens for part in parts) / max(1, n_tokens),
        min(part.no_speech_prob for part in parts),
        n_tokens,
        max(part.compression_ratio for part in parts),
    )
