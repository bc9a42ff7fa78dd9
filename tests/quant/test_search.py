"""The search: a mix is never worse than a uniform one, and says what it cannot do."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

pytest.importorskip("torch", reason="the artifact of these tests is exported with it")
pytest.importorskip("onnx", reason="graphs are rewritten with it")

from edge.errors import UsageError
from quant.front import better, page, svg, uniforms
from quant.mimi_compare import compare_codecs
from quant.recipe import load_recipe, parse_recipe
from quant.run import quantize
from quant.search import Option, as_recipe, options_of, solve
from quant.subject import open_subject
from runtime.models.mimi import MimiCodec
from runtime.models.mimi_probe import probe_sound
from tests.export.mimi_models import tiny_artifact


def test_the_front_is_held_against_what_is_uniform_on_a_page_that_needs_nothing() -> None:
    rng = np.random.default_rng(0)
    options = {
        f"w{i}": [
            Option("float", 400, 0.0),
            Option("f16", 200, float(rng.exponential(1e-6))),
            Option("w8a16", 100, float(rng.exponential(1e-3))),
            *([Option("w4f", 55, float(rng.exponential(1e-1)))] if i % 3 else []),
        ]
        for i in range(12)
    }
    found = solve(options, 1500)
    alike = uniforms(options)
    assert [one.precision for one in alike] == ["float", "f16", "w8a16", "w4f"]
    assert alike[0].damage == 0
    assert alike[-1].size_bytes == 4 * 100 + 8 * 55
    for one in alike:
        small, mild = better(found.front, one)
        assert small is not None
        assert mild is not None
        assert small.damage <= one.damage
        assert mild.size_bytes <= one.size_bytes
        assert small.size_bytes >= alike[-1].size_bytes
    text = page("Mixes of <a> codec", found, alike)
    assert "Mixes of &lt;a&gt; codec" in text
    assert not re.findall(r"(?:src|href)=|url\(|@import|<script", text)
    picture = svg(found, alike)
    drawn = ET.fromstring(picture)  # noqa: S314 - our own
    assert len(drawn.findall("{*}circle")) == len(alike) - 1 + 1
    assert "nan" not in picture


def test_bytes_are_taken_where_they_hurt_least() -> None:
    options = {
        "tender": [Option("float", 400, 0.0), Option("w8a16", 100, 9.0)],
        "tough": [Option("float", 400, 0.0), Option("w8a16", 100, 0.1), Option("w4f", 50, 0.5)],
    }
    found = solve(options, 460)
    assert found.precisions == {"tender": "float", "tough": "w4f"}
    sizes = [point.size_bytes for point in found.front]
    damages = [point.damage for point in found.front]
    assert sizes == sorted(sizes, reverse=True)
    assert damages == sorted(damages)
    assert solve(options, 800).damage == 0
    with pytest.raises(UsageError, match="the smallest has 150 bytes"):
        solve(options, 149)


def test_a_mix_is_less_damaged_than_the_uniform_file_of_its_size(tmp_path: Path) -> None:
    artifact = open_subject(tiny_artifact())
    uniform = quantize(artifact, load_recipe("int8"), tmp_path / "int8")
    overhead = artifact.size_bytes - sum(4 * item.n_values for item in artifact.items)
    found = solve(options_of(artifact, by="sound"), uniform.size_bytes - overhead)
    text = as_recipe(found, "mimi", "mix")
    mix = quantize(artifact, parse_recipe(text, tmp_path / "mix.toml"), tmp_path / "mix")
    reference, frames = MimiCodec(tiny_artifact()), probe_sound(20, seed=0)
    heard = {
        name: compare_codecs(reference, MimiCodec(tmp_path / name), frames)
        for name in ("int8", "mix")
    }
    assert mix.size_bytes <= 1.02 * uniform.size_bytes
    assert heard["mix"].snr_db > heard["int8"].snr_db
    assert sum(heard["mix"].equal) >= sum(heard["int8"].equal)
