"""The recogniser: the text that tokens spell, the pieces of long speech, and real spoken words."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from edge.errors import DeviceError, ModelDamagedError, ShapeError, UsageError
from edge.resample import Resampler
from edge.store import ModelStore
from runtime.backends.ct2 import DecodeOptions, WhisperNet
from runtime.models.asr import (
    Float32,
    Recogniser,
    agreed_words,
    pieces,
    plain_word,
    text_of,
    without_echo,
)
from runtime.models.tts import Voice

RATE = 16_000
SENTENCES = (
    "Yes.",
    "Good morning.",
    "What time is it?",
    "How many legs does a spider have?",
    "Please remind me to call my mother on Wednesday.",
    "Which animal is known as the king of the jungle?",
)


def noise(seconds: float, level: float, seed: int = 0) -> Float32:
    made = level * np.random.default_rng(seed).standard_normal(int(seconds * RATE))
    return made.astype(np.float32)


def plain(text: str) -> list[str]:
    return [word for word in map(plain_word, text.split()) if word]


# --- text -----------------------------------------------------------------------------------------


def test_tokens_spell_bytes() -> None:
    tokens = ["ĠA", "ĠcafÃ©", ",", "<|endoftext|>", "ĠnaÃ", "¯ve", "Ċ"]
    assert text_of(tokens) == "A café, naïve"


def test_half_a_letter_is_left_out() -> None:
    assert text_of(["ĠcafÃ"]) == "caf"
    assert text_of([]) == ""


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Tell me a joke. Tell me a joke. Tell me a joke.", "Tell me a joke."),
        ("Tell me a joke. Tell me a", "Tell me a joke."),
        ("Tell me a joke. Tell me another.", "Tell me a joke. Tell me another."),
        ("No, no.", "No, no."),
    ],
)
def test_an_echo_is_left_out(said: str, kept: str) -> None:
    assert without_echo(said) == kept


@pytest.mark.parametrize(
    ("earlier", "later", "agreed"),
    [
        ("what is the cap", "What is the capital of France?", "What is the"),
        ("What is it", "What is it?", "What is it?"),
        ("", "What", ""),
        ("Who", "What", ""),
    ],
)
def test_partial_texts_agree_on_their_common_beginning(
    earlier: str, later: str, agreed: str
) -> None:
    assert agreed_words(earlier, later) == agreed


# --- pieces ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.5, 24.0, 24.1, 70.0])
def test_pieces_are_short_and_lose_nothing(seconds: float) -> None:
    pcm = noise(seconds, 0.1)
    parts = pieces(pcm)
    assert max(part.size for part in parts) <= 24 * RATE
    np.testing.assert_array_equal(np.concatenate(parts), pcm)


def test_long_speech_is_cut_in_its_pause() -> None:
    pcm = noise(40, 0.1)
    pcm[17 * RATE : 18 * RATE] *= 0.01
    first, *_ = pieces(pcm)
    assert 17 * RATE <= first.size <= 18 * RATE


# --- the real model -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recogniser(starter_models: ModelStore) -> Recogniser:
    made = Recogniser(starter_models.files("whisper-tiny.en"))
    made.warm_up()
    return made


@pytest.fixture(scope="module")
def spoken(starter_models: ModelStore) -> list[Float32]:
    """Each sentence as float32 at 16 kHz."""
    voice = Voice(starter_models.files("hibari-heart"))
    sounds = [voice.speak(text, seed=i).pcm for i, text in enumerate(SENTENCES)]
    return [Resampler(24_000, RATE).push(sound, last=True) for sound in sounds]


@pytest.mark.real
@pytest.mark.parametrize("i", range(len(SENTENCES)))
def test_a_sentence_is_heard_word_by_word(
    recogniser: Recogniser, spoken: list[Float32], i: int
) -> None:
    heard = recogniser.transcribe(spoken[i])
    assert plain(heard.text) == plain(SENTENCES[i])
    assert heard.no_speech_prob < 0.6
    assert heard.compression_ratio < 2.4


@pytest.mark.real
def test_short_and_full_windows_hear_the_same(
    recogniser: Recogniser, spoken: list[Float32]
) -> None:
    pcm = spoken[3]
    full = recogniser.transcribe(pcm, window="full")
    assert plain(full.text) == plain(recogniser.transcribe(pcm).text)


@pytest.mark.real
@pytest.mark.parametrize("kept", [0.35, 0.6, 0.85])
def test_speech_that_breaks_off_is_not_said_twice(
    recogniser: Recogniser, spoken: list[Float32], kept: float
) -> None:
    for pcm, said in zip(spoken[3:], SENTENCES[3:], strict=True):
        heard = plain(recogniser.transcribe(pcm[: int(kept * pcm.size)]).text)
        assert len(heard) <= len(plain(said))


@pytest.mark.real
def test_the_same_sound_gives_the_same_transcript(
    recogniser: Recogniser, spoken: list[Float32]
) -> None:
    before = spoken[1].copy()
    assert recogniser.transcribe(spoken[1]) == recogniser.transcribe(spoken[1])
    np.testing.assert_array_equal(spoken[1], before)


@pytest.mark.real
def test_a_quiet_voice_is_heard(recogniser: Recogniser, spoken: list[Float32]) -> None:
    quiet = spoken[3] * np.float32(0.005)
    assert plain(recogniser.transcribe(quiet).text) == plain(SENTENCES[3])


@pytest.mark.real
@pytest.mark.parametrize(
    "kind", ["white", "loud white", "short white", "hum", "clicks", "breath", "siren", "blip"]
)
def test_sound_without_words_has_no_words(recogniser: Recogniser, kind: str) -> None:
    t_s = np.arange(3 * RATE) / RATE
    clicks = np.zeros(3 * RATE)
    clicks[::7_000] = 0.5
    sounds = {
        "white": noise(3, 0.01),
        "loud white": noise(3, 0.2),
        "short white": noise(0.3, 0.05),
        "hum": 0.1 * np.sum([np.sin(2 * np.pi * 50 * k * t_s) / k for k in range(1, 6)], axis=0),
        "clicks": clicks + noise(3, 0.001),
        "breath": 0.05 * noise(3, 1.0) * (0.5 - 0.5 * np.cos(2 * np.pi * t_s / 1.5)),
        "siren": 0.1 * np.sin(2 * np.pi * np.cumsum(300 + 200 * np.sin(2 * np.pi * t_s)) / RATE),
        "blip": noise(0.05, 0.5),
    }
    assert recogniser.transcribe(sounds[kind].astype(np.float32)).text == ""


@pytest.mark.real
def test_others_run_while_it_computes(recogniser: Recogniser, spoken: list[Float32]) -> None:
    turns = 0
    done = threading.Event()

    def count() -> None:
        nonlocal turns
        while not done.wait(0.002):
            turns += 1

    thread = threading.Thread(target=count)
    thread.start()
    recogniser.transcribe(spoken[4], window="full")
    done.set()
    thread.join()
    assert turns >= 10  # one that held the interpreter would leave one or two


@pytest.mark.real
@pytest.mark.parametrize(
    "pcm",
    [np.zeros(RATE), np.zeros((RATE, 1), np.float32), np.full(RATE, np.nan, np.float32)],
    ids=["float64", "two-dimensional", "not a number"],
)
def test_what_is_no_sound_is_refused(recogniser: Recogniser, pcm: Float32) -> None:
    with pytest.raises(ShapeError, match="pcm_16k"):
        recogniser.transcribe(pcm)


# --- the backend ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def net(starter_models: ModelStore) -> WhisperNet:
    return WhisperNet(starter_models.files("whisper-tiny.en"))


@pytest.mark.real
@pytest.mark.parametrize("n_columns", [2, 100, 384, 3_000])
def test_any_even_window_is_encoded(net: WhisperNet, n_columns: int) -> None:
    encoded = net.encode(np.zeros((80, n_columns), np.float32))
    assert encoded.shape == (n_columns // 2, 384)
    assert np.isfinite(encoded).all()


@pytest.mark.real
@pytest.mark.parametrize("shape", [(80, 101), (80, 3_002), (80, 0), (40, 100)])
def test_other_windows_are_refused(net: WhisperNet, shape: tuple[int, int]) -> None:
    with pytest.raises(ShapeError, match="features"):
        net.encode(np.zeros(shape, np.float32))


@pytest.mark.real
def test_no_more_tokens_than_asked_for(net: WhisperNet) -> None:
    rng = np.random.default_rng(0)
    encoded = rng.standard_normal((200, 384)).astype(np.float32)
    prompt = ["<|startoftranscript|>", "<|notimestamps|>"]
    for most in (1, 5, 20):
        assert len(net.decode(encoded, prompt, DecodeOptions(max_tokens=most)).tokens) <= most
    with pytest.raises(ShapeError, match="encoded"):
        net.decode(encoded[:80], prompt, DecodeOptions())


@pytest.mark.real
def test_a_truncated_model_is_named(starter_models: ModelStore, tmp_path: Path) -> None:
    copies = {}
    for name, path in starter_models.files("whisper-tiny.en").items():
        copies[name] = tmp_path / name
        copies[name].write_bytes(path.read_bytes()[:1_000_000])
    with pytest.raises(ModelDamagedError, match="cannot load"):
        WhisperNet(copies)


@pytest.mark.real
def test_wrong_options_are_refused(starter_models: ModelStore, tmp_path: Path) -> None:
    files = starter_models.files("whisper-tiny.en")
    with pytest.raises(DeviceError, match="int3"):
        WhisperNet(files, compute_type="int3")
    with pytest.raises(UsageError, match="threads"):
        WhisperNet(files, threads=0)
    with pytest.raises(UsageError, match="one folder"):
        WhisperNet({**files, "config.json": tmp_path / "config.json"})


@pytest.mark.real
def test_the_backend_brings_no_training_library() -> None:
    code = (
        "import sys; from runtime.backends.ct2 import load_ctranslate2; load_ctranslate2();"
        "print(sorted({'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
