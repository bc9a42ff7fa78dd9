"""The search: a mix is never worse than a uniform one, and says what it cannot do."""

from __future__ import annotations

import importlib.util
import itertools
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

pytest.importorskip("torch", reason="the artifact of these tests is exported with it")
pytest.importorskip("onnx", reason="graphs are rewritten with it")

from edge.errors import ConfigError, UsageError
from quant.front import Picture, better, page, svg
from quant.mimi_compare import compare_codecs
from quant.mixes import Mixes, Option, Weighed, as_recipe, uniforms
from quant.recipe import load_recipe, parse_recipe
from quant.rounded_codec import SOUND, TOKENS, RoundedCodec
from quant.rounded_streams import KL, RoundedStreams
from quant.run import calibration_speech, quantize
from quant.search import as_good_as, sound_of, talks_of, uniform_of, weigh
from quant.subject import open_subject
from quant.values import Values
from runtime.models.mimi import MimiCodec
from runtime.models.mimi_probe import probe_sound
from tests.export.mimi_models import tiny_artifact
from tests.moshi_models import CONFIGS, export_model, random_weights


def made_up(n: int, seed: int) -> Weighed:
    """Weights of two kinds of damage that cannot be compared: one counts a thousand times less."""
    rng = np.random.default_rng(seed)
    options, kinds = {}, {}
    for i in range(n):
        scale = 1.0 if i % 2 else 1e-3
        options[f"w{i}"] = [
            Option("float", 400, 0.0),
            Option("f16", 200, scale * float(rng.exponential(1e-6))),
            Option("w8a16", 100, scale * float(rng.exponential(1e-3))),
            *([Option("w4f", 55, scale * float(rng.exponential(1e-1)))] if i % 3 else []),
        ]
        kinds[f"w{i}"] = SOUND if i % 2 else TOKENS
    return Weighed(options, kinds)


def test_no_mix_of_all_is_better_than_those_that_are_found() -> None:
    weighed = made_up(6, seed=1)
    unit = {TOKENS: 2e-3, SOUND: 1e-2}
    mixes = Mixes(weighed, unit)
    labels, found = list(weighed.options), []
    for chosen in itertools.product(*weighed.options.values()):
        precisions = {label: one.precision for label, one in zip(labels, chosen, strict=True)}
        found.append((weighed.size_of(precisions), weighed.added(precisions)))
    for target in (500, 700, 1100, 2400):
        best = min(mixes.worst(damages) for size, damages in found if size <= target)
        mine = mixes.of_size(target)
        assert mine.size_bytes <= target
        assert mine.damage == pytest.approx(best)
        assert mine.damages == pytest.approx(weighed.added(mine.precisions))
        assert mine.size_bytes == weighed.size_of(mine.precisions)
    for budget in (1e-4, 1e-3, 0.1):
        most = {TOKENS: budget * unit[TOKENS], SOUND: budget}
        least = min(
            size for size, damages in found if all(damages[kind] <= most[kind] for kind in most)
        )
        assert mixes.within(most).size_bytes == least


def test_the_front_is_held_against_what_is_uniform_on_a_page_that_needs_nothing() -> None:
    weighed = made_up(24, seed=0)
    alike = uniforms(weighed)
    assert [one.precision for one in alike] == ["float", "f16", "w8a16", "w4f"]
    assert set(alike[0].damages.values()) == {0}
    assert alike[-1].size_bytes == 8 * 100 + 16 * 55
    than = uniform_of(weighed, "w8a16")
    mixes = Mixes(weighed, than.damages)
    front = mixes.front()
    sizes, damages = [one.size_bytes for one in front], [one.damage for one in front]
    assert sizes == sorted(sizes, reverse=True)
    assert damages == sorted(damages)
    for one in alike:
        small, mild = better(mixes, one)
        assert small.size_bytes <= one.size_bytes
        assert mild.size_bytes <= one.size_bytes
        assert all(small.damages[kind] <= one.damages[kind] * (1 + 1e-9) for kind in one.damages)
        assert mild.damage <= mixes.worst(one.damages)
    shown = Picture(mixes, mixes.of_size(3000), alike, than)
    text = page("Mixes of <a> codec", shown)
    assert "Mixes of &lt;a&gt; codec" in text
    assert not re.findall(r"(?:src|href)=|url\(|@import|<script", text)
    picture = svg(shown)
    drawn = ET.fromstring(picture)  # noqa: S314 - our own
    assert len(drawn.findall("{*}circle")) == len(alike) - 1 + 1
    assert "nan" not in picture


def test_files_of_two_kinds_have_one_step_under_two_names() -> None:
    main = [Option("q8_0", 80, 0.1), Option("q4_K", 40, 2.0)]
    depth = [Option("float", 300, 0.0), Option("w8", 90, 0.2), Option("w4", 50, 3.0)]
    weighed = Weighed({"main": main, "depth": depth}, {"main": "", "depth": ""})
    alike = {one.precision: one for one in uniforms(weighed)}
    assert list(alike) == ["q8_0/w8", "q4_K/w4"]
    assert alike["q8_0/w8"].precisions == {"main": "q8_0", "depth": "w8"}
    assert uniform_of(weighed, "w4") == uniform_of(weighed, "q4_K") == alike["q4_K/w4"]


def test_bytes_are_taken_where_they_hurt_least() -> None:
    tender = [Option("float", 400, 0.0), Option("w8a16", 100, 9.0)]
    tough = [Option("float", 400, 0.0), Option("w8a16", 100, 0.1), Option("w4f", 50, 0.5)]
    mixes = Mixes(Weighed({"tender": tender, "tough": tough}, {"tender": "", "tough": ""}))
    assert mixes.of_size(460).precisions == {"tender": "float", "tough": "w4f"}
    assert mixes.of_size(800).damage == 0
    with pytest.raises(UsageError, match="the smallest has 150 bytes"):
        mixes.of_size(149)


def test_a_mix_beats_the_uniform_file_in_codes_and_in_sound(tmp_path: Path) -> None:
    artifact = open_subject(tiny_artifact())
    codec = RoundedCodec(artifact, sound_of(None)[:8])
    weighed = weigh(artifact, codec)
    assert set(weighed.every_kind) == {TOKENS, SOUND}
    than = uniform_of(weighed, "w8a16")
    found, checked = as_good_as(weighed, than, codec)
    assert checked is not None
    assert checked.beaten
    texts = {
        "mix": as_recipe(found, "mimi", "mix", {"a" * 64: "a 'clip'.wav"}),
        "uniform": 'name = "uniform"\n[[mimi]]\nmatch = ".*:search:.*"\nto = "f16"\n'
        '[[mimi]]\nmatch = ".*"\nto = "w8a16"\n',
    }
    made = {
        name: quantize(artifact, parse_recipe(text, tmp_path / name), tmp_path / name)
        for name, text in texts.items()
    }
    assert made["mix"].size_bytes < made["uniform"].size_bytes
    used = calibration_speech(open_subject(tmp_path / "mix"))
    assert used == {"a" * 64: "a 'clip'.wav"}
    elsewhere = RoundedCodec(artifact, probe_sound(24, seed=3))
    heard = [elsewhere.damages(one.precisions) for one in (found, than)]
    assert all(heard[0][kind] <= 1.15 * heard[1][kind] for kind in heard[0])
    reference, frames = MimiCodec(tiny_artifact()), probe_sound(24, seed=3)
    same = compare_codecs(reference, MimiCodec(tmp_path / "mix"), frames)
    assert -10 * np.log10(heard[0][SOUND]) == pytest.approx(same.snr_db, abs=0.5)


@pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="needs llama-cpp-python")
def test_a_mix_beats_the_uniform_file_in_what_a_model_would_draw(tmp_path: Path) -> None:
    config = CONFIGS["moshi"] | {"dim": 256, "hidden_scale": 1.5, "num_layers": 1, "dep_q": 2,
                                 "depformer_num_layers": 1}  # fmt: skip
    subject = open_subject(export_model(tmp_path, config, random_weights(config, 1)))
    streams = RoundedStreams(subject, [talk[:6] for talk in talks_of(subject, None, None)[:2]])
    some = next(item.label for item in subject.items if item.label.endswith("ffn_down.weight"))
    damage = {to: streams.damages({some: to})[KL] for to in ("float", "q8_0", "q4_K", "q3_K")}
    assert damage["float"] == 0
    assert 0 < damage["q8_0"] < damage["q4_K"] < damage["q3_K"]
    weighed = weigh(subject, streams)
    assert weighed.every_kind == (KL,)
    found, checked = as_good_as(weighed, uniform_of(weighed, "q4_K"), streams)
    assert checked is not None
    assert checked.beaten
    assert len(set(found.precisions.values())) > 1
    (tmp_path / "mix.toml").write_text(as_recipe(found, "moshi", "mix", {}))
    made = quantize(subject, load_recipe(str(tmp_path / "mix.toml")), tmp_path / "mix")
    became = {one.label: Values(open_subject(made.directory)).stored(one) for one in subject.items
              if one.tensor}  # fmt: skip
    assert became == {label: found.precisions[label] for label in became}


def test_a_search_stands_at_the_codes_of_the_codec() -> None:
    artifact = open_subject(tiny_artifact())
    codec = RoundedCodec(artifact, probe_sound(6, seed=1))
    alone = MimiCodec(tiny_artifact())
    state, codes = alone.start(), []
    for pcm in probe_sound(6, seed=1):
        state, one = alone.encode(state, pcm)
        codes.append(one)
    assert np.array_equal(codec._codes, np.array(codes))
    best = np.stack([scores.argmax(1) for scores in codec._scores], axis=1)
    assert np.array_equal(best, codec._codes)
    halves = {item.label: "f16" for item in artifact.items if ":search:" in item.label}
    assert 0 < codec.damages(halves)[TOKENS] < 1e-3
    assert set(codec.damages(halves)) == {TOKENS}


def test_speech_of_a_recipe_is_named_by_hash() -> None:
    with pytest.raises(ConfigError, match="speech must be a list of"):
        parse_recipe('name = "x"\nspeech = ["clip.wav"]\n', Path("x.toml"))
    assert load_recipe("int8").speech == {}
