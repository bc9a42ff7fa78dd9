"""Voices: recordings at any level, published files of plain tensors, and what is refused."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edge.errors import ArtifactError, AudioFileError, ShapeError, UsageError
from edge.frame import FRAME_SAMPLES, Pcm
from edge.safetensors import SafetensorsFile
from export.voices import columns_of, convert_voice, read_pt, write_voice
from runtime.models.multistream.artifact import open_artifact
from runtime.models.multistream.delays import Int64
from runtime.models.multistream.prompting import (
    SILENCE_CODES,
    TONE_CODES,
    VoicePrompt,
    read_voice,
)
from runtime.models.multistream.spec import MoshiSpec
from runtime.models.multistream.voices import encode_voice, open_voice, quiet_codes
from tests.moshi_models import CONFIGS, export_model, random_weights

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "torch", "safetensors")),
    reason="needs onnx, torch and safetensors: pip install 'edgevoice[export]'",
)
RAW = CONFIGS["personaplex"]


class LevelEncoder:
    """The code of each codebook is the frame's level, in steps of a hundredth."""

    def start(self) -> int:
        return 0

    def encode(self, state: int, pcm: Pcm) -> tuple[int, Int64]:
        return state + 1, np.full(8, min(31, int(100 * np.abs(pcm).mean())), np.int64)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_model(tmp_path_factory.mktemp("voices"), RAW, random_weights(RAW, 1))


@pytest.fixture(scope="module")
def spec(artifact: Path) -> MoshiSpec:
    return open_artifact(artifact).spec


def recording(path: Path, gain: float) -> Path:
    rng = np.random.default_rng(0)
    rise = np.linspace(0.2, 1.0, 10 * FRAME_SAMPLES - 700, dtype=np.float32)
    soundfile.write(path, gain * rise * rng.uniform(-1, 1, len(rise)), 24_000, subtype="FLOAT")
    return path


def test_a_recording_gives_the_same_voice_at_any_level(tmp_path: Path, spec: MoshiSpec) -> None:
    voices = [
        encode_voice(recording(tmp_path / f"{gain}.wav", gain), spec.layout, LevelEncoder())
        for gain in (0.02, 0.9)
    ]
    codes = [voice.codes for voice in voices if voice.codes is not None]
    np.testing.assert_array_equal(*codes)
    assert codes[0].shape == (10, spec.n_own)
    assert codes[0][1, 0] < codes[0][8, 0]


class PublishedEncoder(LevelEncoder):
    """Silence as the published codec encodes it, but for one codebook."""

    def encode(self, state: int, pcm: Pcm) -> tuple[int, Int64]:
        return state + 1, np.array([*SILENCE_CODES[:7], 5])


def test_prompts_are_quiet_in_the_codes_of_the_codec_at_hand(spec: MoshiSpec) -> None:
    wide = replace(spec.layout, delays=(0,) * 17, n_own=8)
    assert quiet_codes(PublishedEncoder(), wide) == (SILENCE_CODES, TONE_CODES)
    silent, tone = quiet_codes(LevelEncoder(), spec.layout)
    assert silent == (0,) * spec.n_own
    assert tone == (31,) * spec.layout.n_user


def test_what_is_no_voice_is_refused(tmp_path: Path, spec: MoshiSpec) -> None:
    for name, pcm, said in (
        ("silent", np.zeros(48_000), "only silence"),
        ("scrap", np.ones(2_000), "at least"),
        ("speech", np.ones(31 * 24_000) * 0.1, "at most 30 s"),
    ):
        soundfile.write(tmp_path / f"{name}.wav", pcm, 24_000)
        with pytest.raises(AudioFileError, match=said):
            encode_voice(tmp_path / f"{name}.wav", spec.layout, LevelEncoder())
    with pytest.raises(UsageError, match="edge export voice"):
        open_voice(tmp_path / "voice.pt", spec.layout, LevelEncoder())


def test_a_voice_file_is_read_as_it_was_written(tmp_path: Path, spec: MoshiSpec) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 32, (7, spec.n_own))
    write_voice(tmp_path / "a.safetensors", VoicePrompt(codes=codes))
    again = open_voice(tmp_path / "a.safetensors", spec.layout, LevelEncoder())
    np.testing.assert_array_equal(again.codes, codes)
    inputs = rng.standard_normal((5, spec.dim)).astype(np.float32)
    columns = rng.integers(0, 32, (2, spec.layout.n_streams))
    write_voice(tmp_path / "b.safetensors", VoicePrompt(embeddings=inputs, columns=columns))
    recorded = read_voice(tmp_path / "b.safetensors", spec.layout)
    np.testing.assert_array_equal(recorded.embeddings, inputs)
    write_voice(tmp_path / "c.safetensors", VoicePrompt(embeddings=inputs, columns=columns[:, 1:]))
    with pytest.raises(ArtifactError, match="not a voice for this model"):
        read_voice(tmp_path / "c.safetensors", spec.layout)


def published(path: Path, spec: MoshiSpec, **changed: Any) -> Path:
    """A .pt file as PersonaPlex's code writes it after six frames of voice."""
    import torch

    generator = torch.Generator().manual_seed(0)
    n_streams = spec.layout.n_streams
    stored = {
        "embeddings": torch.randn((5, 1, 1, spec.dim), generator=generator).bfloat16(),
        "cache": torch.randint(0, 32, (1, n_streams, 4), generator=generator),
    }
    torch.save(stored | changed, path)
    return path


def test_a_published_voice_becomes_plain_tensors(
    tmp_path: Path, artifact: Path, spec: MoshiSpec
) -> None:
    source = published(tmp_path / "voice.pt", spec)
    out = tmp_path / "voice.safetensors"
    assert convert_voice(source, artifact, out) == 5
    assert set(SafetensorsFile(out).entries) == {"embeddings", "columns"}
    made, direct = read_voice(out, spec.layout), read_pt(source, spec)
    np.testing.assert_array_equal(made.embeddings, direct.embeddings)
    np.testing.assert_array_equal(made.columns, direct.columns)


def test_the_columns_after_a_recording_come_from_the_ring(spec: MoshiSpec) -> None:
    """Position p lies in column p modulo the ring's length; undelayed streams end at the first."""
    layout = spec.layout
    cache = np.arange(layout.n_streams * 4).reshape(layout.n_streams, 4)
    for n_positions in range(3, 9):
        columns = columns_of(cache, n_positions, spec)
        np.testing.assert_array_equal(columns[0], cache[:, n_positions % 4])
        for stream, delay in enumerate(layout.delays):
            expected = cache[stream, (n_positions + 1) % 4] if delay else -2
            assert columns[1, stream] == expected
    with pytest.raises(UsageError, match="want 9 streams"):
        columns_of(cache[1:], 3, spec)


class Payload:
    """What a hostile file would hold."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("was_run"),))


def test_no_code_in_a_published_file_is_run(
    tmp_path: Path, spec: MoshiSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hostile = published(tmp_path / "bad.pt", spec, extra=Payload())
    with pytest.raises(UsageError, match="plain tensors"):
        read_pt(hostile, spec)
    assert not (tmp_path / "was_run").exists()
    cut = tmp_path / "cut.pt"
    cut.write_bytes(published(tmp_path / "whole.pt", spec).read_bytes()[:200])
    with pytest.raises(UsageError, match="plain tensors"):
        read_pt(cut, spec)
    with pytest.raises(UsageError, match="no such voice"):
        read_pt(tmp_path / "gone.pt", spec)


def test_a_voice_of_another_width_leaves_nothing(
    tmp_path: Path, artifact: Path, spec: MoshiSpec
) -> None:
    import torch

    narrow = published(tmp_path / "narrow.pt", spec, embeddings=torch.zeros(5, 1, 1, 30))
    with pytest.raises((UsageError, ShapeError)):
        convert_voice(narrow, artifact, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
