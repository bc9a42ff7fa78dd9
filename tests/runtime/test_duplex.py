"""The duplex engine: whole replies, captions, idleness; a codec made of plain arithmetic."""

from __future__ import annotations

import importlib.util
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge.errors import ArtifactError, UsageError
from edge.frame import FRAME_SAMPLES, Frame, Pcm, silence
from runtime import loop
from runtime.clock import FastClock
from runtime.engines.duplex import DuplexEngine, DuplexOptions, DuplexState
from runtime.engines.engine import Context
from runtime.models.moshi import MoshiModel
from runtime.models.multistream.delays import Int64
from runtime.sound.clear import ClearPort
from runtime.sound.null import NullPort
from runtime.trace import Trace, rss_mb
from tests.moshi_models import CONFIGS, export_model, random_weights

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("llama_cpp", "onnx", "onnxruntime")),
    reason="needs llama-cpp-python, onnx and onnxruntime: pip install 'edgevoice[cascade,export]'",
)


class LevelCodec:
    """Codes are the levels of a frame's quarters; state is how many frames went each way."""

    def __init__(self, n_codebooks: int = 4, bins: int = 32) -> None:
        self.n_codebooks, self.bins = n_codebooks, bins

    def start(self) -> list[int]:
        return [0, 0]

    def encode(self, state: list[int], pcm: Pcm) -> tuple[list[int], Int64]:
        state[0] += 1
        levels = np.abs(pcm.reshape(self.n_codebooks, -1)).mean(axis=1)
        return state, np.minimum(levels * self.bins, self.bins - 1).astype(np.int64)

    def decode(self, state: list[int], codes: Int64) -> tuple[list[int], Pcm]:
        assert codes.shape == (self.n_codebooks,)
        state[1] += 1
        levels = codes.astype(np.float32) / self.bins
        return state, np.repeat(levels, FRAME_SAMPLES // self.n_codebooks)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MoshiModel]:
    folder = tmp_path_factory.mktemp("duplex")
    model = MoshiModel(export_model(folder, CONFIGS["moshi"], random_weights(CONFIGS["moshi"], 1)))
    yield model
    model.close()


def speech(n_frames: int) -> list[Frame]:
    rng = np.random.default_rng(0)
    pcm = rng.uniform(-0.5, 0.5, (n_frames, FRAME_SAMPLES)).astype(np.float32)
    return [Frame(i, 0, frame) for i, frame in enumerate(pcm)]


def run(engine: DuplexEngine, state: DuplexState, frames: list[Frame]) -> list[Pcm]:
    replies = []
    for frame in frames:
        state, reply = engine.step(state, frame)
        assert reply.index == frame.index
        replies.append(reply.pcm)
    return replies


def test_the_reply_is_what_codec_and_model_give_in_turn(model: MoshiModel) -> None:
    codec = LevelCodec()
    engine = DuplexEngine(codec, model, options=DuplexOptions(greedy=True))
    state = engine.start(seed=3, context=Context())
    replies = run(engine, state, speech(12))
    engine.finish(state)
    talk = model.start(seed=3, greedy=True)
    stream = codec.start()
    codes = [codec.encode(stream, frame.pcm)[1] for frame in speech(12)]
    # The first frame is stepped twice, as the official offline loop does.
    for i, user in enumerate([codes[0], *codes]):
        talk, out = model.step(talk, user)
        if i == 0:
            assert out.codes is None
        else:
            assert out.codes is not None
            np.testing.assert_array_equal(replies[i - 1], codec.decode(stream, out.codes)[1])
    talk.close()


def test_equal_seeds_give_equal_replies(model: MoshiModel) -> None:
    engine = DuplexEngine(LevelCodec(), model)
    engine.warm_up()
    runs = []
    for seed in (1, 1, 2):
        state = engine.start(seed=seed, context=Context())
        runs.append(np.array(run(engine, state, speech(20))))
        engine.finish(state)
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


def test_stages_are_told_and_add_up(model: MoshiModel) -> None:
    ticks = iter(range(0, 10_000_000, 1000))
    engine = DuplexEngine(LevelCodec(), model, now_ns=lambda: next(ticks))
    state = engine.start(seed=1, context=Context())
    state, reply = engine.step(state, speech(1)[0])
    spans = [event.facts for event in reply.events if event.kind == "stage"]
    assert [span["name"] for span in spans] == ["encode", "temporal", "depth", "decode"]
    assert all(a["ended_ns"] <= b["began_ns"] for a, b in itertools.pairwise(spans))
    engine.finish(state)


def test_a_codec_of_other_codebooks_is_refused(model: MoshiModel) -> None:
    for codec in (LevelCodec(3), LevelCodec(8), LevelCodec(4, bins=64)):
        with pytest.raises(ArtifactError, match="export the codec with --codebooks 4"):
            DuplexEngine(codec, model)


def test_a_prompt_needs_a_tokenizer_and_a_voice_its_file(model: MoshiModel, tmp_path: Path) -> None:
    engine = DuplexEngine(LevelCodec(), model, options=DuplexOptions(prompted=True))
    with pytest.raises(UsageError, match="tokenizer"):
        engine.start(seed=0, context=Context(prompt="You are kind."))
    with pytest.raises(UsageError, match="no voice"):
        engine.start(seed=0, context=Context(voice=str(tmp_path / "gone.safetensors")))


def test_decoding_beside_the_next_frame_says_the_same_a_frame_later(model: MoshiModel) -> None:
    frames = speech(20)
    runs = []
    for overlap in (False, True):
        engine = DuplexEngine(LevelCodec(), model, options=DuplexOptions(overlap=overlap))
        state = engine.start(seed=4, context=Context())
        runs.append(run(engine, state, frames))
        engine.finish(state)
    assert not runs[1][0].any()
    np.testing.assert_array_equal(runs[1][1:], runs[0][:-1])


def test_a_late_conversation_is_made_cheaper_step_by_step(model: MoshiModel) -> None:
    engine = DuplexEngine(LevelCodec(), model)
    state = engine.start(seed=4, context=Context())
    replies = run(engine, state, speech(20))
    assert "80 ms" in str(engine.relieve(state))
    later = run(engine, state, speech(20))
    assert not later[0].any()
    assert later[1].any()
    assert engine.relieve(state) is None  # there is no long past yet that could be left out
    assert len(replies) == len(later) == 20
    for _ in range(400):
        state.talk, _ = model.step(state.talk, np.zeros(4, np.int64))
    first, last = state.talk.context.span()
    assert last - first + 1 == 400
    assert "last 30 s" in str(engine.relieve(state))
    run(engine, state, speech(3))
    first, last = state.talk.context.span()
    assert last - first + 1 == 375
    assert engine.relieve(state) is None
    engine.finish(state)


def test_a_model_that_only_listens_gives_silence_and_its_heads(tmp_path: Path) -> None:
    raw = CONFIGS["speech_to_text"]
    listener = MoshiModel(export_model(tmp_path, raw, random_weights(raw, 1)))
    engine = DuplexEngine(LevelCodec(8), listener, options=DuplexOptions(overlap=True))
    engine.warm_up()
    state = engine.start(seed=1, context=Context())
    for frame in speech(5):
        state, reply = engine.step(state, frame)
        assert not reply.pcm.any()
        heads = [event.facts for event in reply.events if event.kind == "heads"]
        assert [len(facts) for facts in heads] == [3]
    engine.finish(state)
    engine.close()


def test_warming_up_measures_what_a_step_takes(model: MoshiModel) -> None:
    engine = DuplexEngine(LevelCodec(), model, options=DuplexOptions(overlap=True))
    engine.warm_up()
    assert engine.options.overlap
    assert engine.measured is not None
    assert 0 <= engine.measured.decode_ms < engine.measured.step_ms


def test_a_voice_may_be_a_recording(tmp_path: Path) -> None:
    raw = CONFIGS["personaplex_loop"]
    prompted = MoshiModel(export_model(tmp_path, raw, random_weights(raw, 1)))
    rng = np.random.default_rng(0)
    pcm = rng.uniform(-0.3, 0.3, 5 * FRAME_SAMPLES).astype(np.float32)
    soundfile.write(tmp_path / "voice.wav", pcm, 24_000)
    codec = LevelCodec(8, bins=2048)
    engine = DuplexEngine(codec, prompted, options=DuplexOptions(prompted=True))
    voice = str(tmp_path / "voice.wav")
    states = [engine.start(seed=0, context=Context(voice=v)) for v in (voice, "", voice)]
    n_prefix = [state.talk.window.n_prefix for state in states]
    assert n_prefix[0] == n_prefix[1] + 5 == n_prefix[2]
    for state in states:
        engine.finish(state)
    (tmp_path / "voice.pt").write_bytes(b"")
    with pytest.raises(UsageError, match="edge export voice"):
        engine.start(seed=0, context=Context(voice=str(tmp_path / "voice.pt")))


def test_half_an_hour_costs_no_memory_and_no_time(tmp_path: Path) -> None:
    """A short context, so that the cache turns over hundreds of times; in a process of its own,
    for what earlier tests left on the heap moves while this one runs.
    """
    raw = CONFIGS["moshi"] | {
        "dim": 32, "num_heads": 2, "num_layers": 1, "depformer_num_layers": 1, "n_q": 4,
        "dep_q": 2, "delays": [0, 0, 1, 0, 1],
    }  # fmt: skip
    folder = export_model(tmp_path, raw, random_weights(raw, 1))
    code = f"from tests.runtime.test_duplex import half_an_hour; half_an_hour({str(folder)!r})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    facts = json.loads(ran.stdout)
    assert facts["memory_mb"][-1] - facts["memory_mb"][0] < 2.0
    # Other programs slow some steps; work that grew with the past would slow all of them.
    assert facts["late_ns"] < 2 * facts["early_ns"]
    assert facts["next_position"] <= facts["rebase_at"]


def half_an_hour(folder: str) -> None:
    """Thirty minutes of frames as fast as they go; prints what memory and steps did."""
    model = MoshiModel(Path(folder))
    talk = model.start(seed=1, context=48)
    heard = np.random.default_rng(0).integers(0, 32, (64, 2))
    n_frames = 30 * 60 * 1000 // 80
    memory_mb, step_ns = [], np.zeros(n_frames)
    for i in range(n_frames):
        began_ns = time.thread_time_ns()
        talk, _ = model.step(talk, heard[i % 64], quiet=i % 50 == 0)
        step_ns[i] = time.thread_time_ns() - began_ns
        if i % 1000 == 999:
            memory_mb.append(rss_mb())
    early, late = (np.percentile(part, 10) for part in (step_ns[1000:6000], step_ns[-5000:]))
    window = talk.window
    facts = {"memory_mb": memory_mb, "early_ns": float(early), "late_ns": float(late)}
    facts |= {"next_position": window.next_position, "rebase_at": window.rebase_at}
    sys.stdout.write(json.dumps(facts))
    talk.close()


class NotingCodec(LevelCodec):
    """Remembers what it was given to encode."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Pcm] = []

    def encode(self, state: list[int], pcm: Pcm) -> tuple[list[int], Int64]:
        self.heard.append(pcm.copy())
        return super().encode(state, pcm)


class Replayed(NullPort):
    """Gives frames of a microphone."""

    def __init__(self, frames: list[Pcm]) -> None:
        super().__init__(FastClock(lambda: False))
        self._frames = iter(frames)

    def read(self, *, engine_idle: bool) -> Pcm | None:
        return next(self._frames, None)


def test_the_model_hears_what_the_microphone_path_made_of_it(model: MoshiModel) -> None:
    rng = np.random.default_rng(2)
    quiet = rng.uniform(-0.004, 0.004, (80, FRAME_SAMPLES)).astype(np.float32) + np.float32(0.05)
    quiet[40, 700:1_000] = np.nan
    frames = list(quiet)
    codec = NotingCodec()
    engine = DuplexEngine(codec, model, options=DuplexOptions(greedy=True, own_voice=True))
    loop.run(
        engine,
        ClearPort(Replayed(frames)),
        FastClock(lambda: False),
        seed=0,
        context=Context(),
        trace=Trace(),
    )
    alone = ClearPort(Replayed(frames))
    want = [alone.read(engine_idle=False) for _ in frames]
    np.testing.assert_array_equal(codec.heard, want)
    assert np.isfinite(codec.heard).all()
    assert abs(float(np.mean(codec.heard[-1]))) < 0.02  # the constant part is on its way out


def test_its_sound_is_lower_while_the_user_speaks(model: MoshiModel) -> None:
    """What the model gives is the same; only its level changes, and the reason is said."""
    frames = [*speech(6), *(Frame(6 + i, 0, silence()) for i in range(8))]
    plain = DuplexEngine(LevelCodec(), model, options=DuplexOptions(greedy=True))
    polite = DuplexEngine(LevelCodec(), model, options=DuplexOptions(greedy=True, duck_db=-12.0))
    usual = run(plain, plain.start(seed=3, context=Context()), frames)
    state = polite.start(seed=3, context=Context())
    lowered, told = [], []
    for frame in frames:
        state, reply = polite.step(state, frame)
        lowered.append(reply.pcm)
        told += [(event.kind, event.facts["why"]) for event in reply.events if "why" in event.facts]
    kinds = [kind for kind, _ in told]
    assert kinds.index("user_ducked") < kinds.index("user_raised")
    assert all(why for _, why in told)
    loud = [i for i in range(2, 6) if np.any(usual[i])]
    assert loud
    for i in loud:
        np.testing.assert_allclose(lowered[i], usual[i] * 10 ** (-12 / 20), rtol=1e-4)
    np.testing.assert_array_equal(lowered[-1], usual[-1])
