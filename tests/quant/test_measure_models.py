"""Whole measurements of small models: controls that hold, and an order of damage."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("llama_cpp", "torch", "onnx")),
    reason="needs llama-cpp-python, torch and onnx: pip install 'edgevoice[cascade,export]'",
)

from apps.mini import SHIPPED  # noqa: E402
from edge.errors import UsageError  # noqa: E402
from edge.store import ModelStore  # noqa: E402
from quant.measure.ears import WAIVABLE, Ears, Options  # noqa: E402
from quant.measure.freely import Said, gibberish_share, pace, stuck_share  # noqa: E402
from quant.measure.gates import COMPACT  # noqa: E402
from quant.measure.kinds import measure_any  # noqa: E402
from quant.measure.run import Plan, measure_codec  # noqa: E402
from quant.measure.speech import read_speech  # noqa: E402
from quant.measure.streams import kl  # noqa: E402
from quant.recipe import load_recipe  # noqa: E402
from quant.run import quantize  # noqa: E402
from quant.subject import open_subject  # noqa: E402
from runtime.models.tts import Voice  # noqa: E402
from tests.export.mimi_models import tiny_artifact  # noqa: E402
from tests.moshi_models import CONFIGS, export_model, random_weights  # noqa: E402
from tests.quant.test_measure import voice, write_clip  # noqa: E402

WIDE = CONFIGS["moshi"] | {"dim": 256, "num_heads": 4, "hidden_scale": 4.5, "depformer_dim": 64}


def plan(folder: Path) -> Plan:
    return Plan(COMPACT, Options(WAIVABLE), 0, folder / "cache", untrained=True, timed=False)


def test_a_codec_is_measured_with_its_controls(tmp_path: Path) -> None:
    speech = tmp_path / "speech"
    speech.mkdir()
    for i in range(3):
        write_clip(speech / f"clip{i}.wav", voice(0.8, 24_000, 100 + 30 * i))
    write_clip(speech / "silent.wav", np.zeros(24_000, np.float32))
    reference = open_subject(tiny_artifact())
    found = {}
    for name in ("transparent", "tiny"):
        made = quantize(reference, load_recipe(name), tmp_path / name)
        result, rows = measure_codec(
            reference, open_subject(made.directory), read_speech(speech), plan(tmp_path)
        )
        assert result["controls"]["fine"]
        assert result["verdict"] != "pass"  # three clips show nothing
        assert result["skipped"] == {"silent": "silent"}
        assert "untrained weights: no claim about sound" in result["labels"]
        assert set(result["waived"]) == set(WAIVABLE)
        assert len(rows) == 4
        found[name] = result["metrics"]
    assert found["transparent"]["si_sdr_db"]["mean"] > found["tiny"]["si_sdr_db"]["mean"] + 10
    assert found["transparent"]["tokens_mean"]["mean"] > found["tiny"]["tokens_mean"]["mean"]
    other = tmp_path / "other"
    other.mkdir()
    write_clip(other / "clip0.wav", np.zeros(9600, np.float32))
    with pytest.raises(UsageError, match="none of the clips can be measured: clip0 is silent"):
        measure_codec(reference, reference, read_speech(other), plan(tmp_path))


def test_streams_drift_apart_as_bits_are_taken(tmp_path: Path) -> None:
    reference = open_subject(export_model(tmp_path, WIDE, random_weights(WIDE, 1)))
    found = {}
    for name in ("int8", "tiny"):
        made = quantize(reference, load_recipe(name), tmp_path / name)
        models = (reference, open_subject(made.directory))
        result, _ = measure_any(
            models, (tmp_path, tmp_path), plan(tmp_path), speech=None, limit=2, codec=None,
            on_progress=lambda *_: None,
        )  # fmt: skip
        assert result["controls"]["float_against_float"]["zero"] == 1
        assert "the user's codes are random: they are no speech" in result["labels"]
        found[name] = result["metrics"]
    assert 0 < found["int8"]["text_kl"]["mean"] < found["tiny"]["text_kl"]["mean"]
    assert 0 < found["int8"]["audio_kl"]["mean"] < found["tiny"]["audio_kl"]["mean"]


def test_a_model_left_to_itself_is_heard(starter_models: ModelStore, tmp_path: Path) -> None:
    speech = tmp_path / "speech"
    speech.mkdir()
    voice_ = Voice(starter_models.files("hibari-heart"))
    write_clip(speech / "name.wav", voice_.speak("What is your name?", seed=0).pcm)
    model = open_subject(SHIPPED)
    options = Options(tuple(name for name in WAIVABLE if name != "words"))
    result, rows = measure_any(
        (model, model), (tmp_path, tmp_path),
        Plan(COMPACT, options, 0, tmp_path / "cache", timed=False),
        speech=speech, limit=None, codec=None, on_progress=lambda *_: None,
    )  # fmt: skip
    assert result["controls"]["fine"]
    # It answers, and its own text is what its sound is held against.
    (row,) = rows
    assert row.counts["candidate.wer"] == row.counts["reference.wer"]
    assert row.counts["candidate.wer"][1] >= 1
    assert result["metrics"]["artefact_change"]["mean"] == 0
    assert 0 < result["levels"]["free"]["candidate"]["quiet"] < 1
    assert set(row.sounds) == {"reference", "candidate"}


def test_what_is_stuck_or_gibberish_is_told_from_speech() -> None:
    rng = np.random.default_rng(0)
    tone = np.sin(np.arange(36 * 1920) / 9).astype(np.float32) * 0.1
    codes = rng.integers(0, 64, (36, 8))
    words = tuple(f" word{i}" if i % 4 == 0 else "" for i in range(36))
    fine = Said(words, codes, tone)
    assert stuck_share(fine) == 0
    assert pace(fine) == pytest.approx(3)
    assert stuck_share(Said(words, np.zeros_like(codes), tone)) == 1
    assert stuck_share(Said(words, np.zeros_like(codes), 0 * tone)) == 0  # it only listens
    circling = tuple(" I am sure"[i % 3 * 3 :][:3] for i in range(36))
    assert stuck_share(Said(circling, codes, tone)) > 0.5
    ears = Ears(Options(WAIVABLE))
    assert math.isnan(gibberish_share(fine, ears))
    assert gibberish_share(Said(words, codes, 0 * tone), ears) == 0


def test_kl_is_zero_for_equals_and_positive_else() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 20, 8)).astype(np.float32)
    assert (kl(a, a + np.float32(3)) < 1e-6).all()
    assert (kl(a, b) > 0).all()


def test_a_language_model_alone_is_not_measured_with_a_guess(tmp_path: Path) -> None:
    from export.gguf import float_tensor, write_gguf

    values = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    tensors = [float_tensor("blk.0.attn_q.weight", (64, 64), "F32", lambda: values)]
    write_gguf(tmp_path / "m.gguf", {"general.architecture": "llama"}, tensors, source="t")
    model = open_subject(tmp_path / "m.gguf", role="llm")
    with pytest.raises(UsageError, match="perplexity and KL need the float model"):
        measure_any(
            (model, model), (tmp_path, tmp_path), plan(tmp_path), speech=None, limit=None,
            codec=None, on_progress=lambda *_: None,
        )  # fmt: skip
