"""The codec at run time, on a very small artifact made once from the official model."""

from __future__ import annotations

import resource
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import ArtifactError, DeadlineError, ShapeError, UsageError
from edge.manifest import RecipeRecord, read_manifest, record_file, write_manifest
from runtime.models.mimi import MimiCodec, MimiState
from runtime.models.mimi_probe import choose_codec, find_presets, open_codec, probe_sound
from runtime.models.state_file import read_arrays

pytest.importorskip("onnxruntime", reason="the codec runs on it")

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
Frames = NDArray[np.float32]


@pytest.fixture(scope="module")
def codec() -> MimiCodec:
    return MimiCodec(GOLDEN / "mimi")


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A copy of the artifact, to be spoilt."""
    return Path(shutil.copytree(GOLDEN / "mimi", tmp_path / "mimi"))


def _run(codec: MimiCodec, state: MimiState, frames: Frames) -> tuple[MimiState, Any, Any]:
    codes, wave = [], []
    for pcm in frames:
        state, code = codec.encode(state, pcm)
        state, heard = codec.decode(state, code)
        codes.append(code)
        wave.append(heard)
    return state, np.array(codes), np.array(wave)


def test_codes_and_sound_are_the_official_models(codec: MimiCodec) -> None:
    golden = read_arrays(GOLDEN / "mimi_golden.safetensors", "golden", _made_with())
    pcm = (golden["pcm"] / 32768).astype(np.float32)
    _, codes, wave = _run(codec, codec.start(), pcm)
    np.testing.assert_array_equal(codes, golden["codes"])
    assert np.abs(wave - golden["wave"]).max() < 1e-5
    assert np.abs(golden["wave"]).std() > 0.01


def test_codes_and_sound_are_the_hub_models(codec: MimiCodec) -> None:
    golden = read_arrays(GOLDEN / "mimi_golden.safetensors", "golden", _made_with())
    n_frames = len(golden["hub_codes"])
    pcm = (golden["pcm"][:n_frames] / 32768).astype(np.float32)
    _, codes, wave = _run(codec, codec.start(), pcm)
    np.testing.assert_array_equal(codes, golden["hub_codes"])
    assert np.abs(wave - golden["hub_wave"]).max() < 1e-5
    assert len({tuple(code) for code in codes}) == n_frames > 4


def _made_with() -> str:
    import json
    import struct

    raw = (GOLDEN / "mimi_golden.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])
    return str(header["__metadata__"]["model"])


def test_streams_on_one_model_do_not_meet(codec: MimiCodec) -> None:
    frames = probe_sound(18, seed=5)
    _, alone, heard_alone = _run(codec, codec.start(), frames)
    mine, other = codec.start(), codec.start()
    for index, pcm in enumerate(frames):
        other, _ = codec.encode(other, frames[-1 - index])
        mine, codes = codec.encode(mine, pcm)
        other, _ = codec.decode(other, alone[-1 - index])
        mine, heard = codec.decode(mine, codes)
        np.testing.assert_array_equal(codes, alone[index])
        np.testing.assert_array_equal(heard, heard_alone[index])


def test_what_is_returned_is_the_callers_own(codec: MimiCodec) -> None:
    frames = probe_sound(4, seed=6)
    state, codes = codec.encode(codec.start(), frames[0])
    kept = codes.copy()
    state, heard = codec.decode(state, codes)
    kept_heard = heard.copy()
    _run(codec, state, frames[1:])
    np.testing.assert_array_equal(codes, kept)
    np.testing.assert_array_equal(heard, kept_heard)


@pytest.mark.parametrize("n_before", [1, 7, 12])
def test_a_saved_state_goes_on_exactly(codec: MimiCodec, tmp_path: Path, n_before: int) -> None:
    frames = probe_sound(20, seed=7)
    _, want, heard = _run(codec, codec.start(), frames)
    state, _, _ = _run(codec, codec.start(), frames[:n_before])
    codec.save_state(state, tmp_path / "state")
    again = codec.load_state(tmp_path / "state")
    assert (again.n_encoded, again.n_decoded) == (n_before, n_before)
    _, codes, wave = _run(codec, again, frames[n_before:])
    np.testing.assert_array_equal(codes, want[n_before:])
    np.testing.assert_array_equal(wave, heard[n_before:])


def test_a_bad_frame_is_refused_and_changes_nothing(codec: MimiCodec) -> None:
    frames = probe_sound(6, seed=8)
    _, want, _ = _run(codec, codec.start(), frames)
    state, _, _ = _run(codec, codec.start(), frames[:3])
    bad = frames[3].copy()
    bad[17] = np.nan
    with pytest.raises(ShapeError, match="NaN"):
        codec.encode(state, bad)
    with pytest.raises(ShapeError, match="1920"):
        codec.encode(state, frames[3][:960])
    with pytest.raises(ShapeError, match="float64"):
        codec.encode(state, frames[3].astype(np.float64))  # type: ignore[arg-type]
    _, codes, _ = _run(codec, state, frames[3:])
    np.testing.assert_array_equal(codes, want[3:])


def test_bad_codes_are_refused(codec: MimiCodec) -> None:
    state = codec.start()
    good = np.zeros(codec.n_codebooks, np.int64)
    for codes in (good[:-1], good.astype(np.int32), good - 1, good + codec.bins):
        with pytest.raises(ShapeError, match="codes"):
            codec.decode(state, codes)  # type: ignore[arg-type]
    state, heard = codec.decode(state, good)
    assert heard.shape == (1920,)


def test_memory_does_not_grow(codec: MimiCodec) -> None:
    frames = probe_sound(50, seed=9)
    state, _, _ = _run(codec, codec.start(), frames)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(10):
        for pcm in frames:
            state, codes = codec.encode(state, pcm)
            state, _ = codec.decode(state, codes)
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
    assert state.n_encoded == 550
    assert grown_kb < (2_000 if sys.platform == "linux" else 2_000_000)


def test_a_changed_byte_is_found(artifact: Path) -> None:
    graph = artifact / "decoder.onnx"
    raw = bytearray(graph.read_bytes())
    raw[len(raw) // 2] ^= 1
    graph.write_bytes(raw)
    with pytest.raises(ArtifactError, match=r"decoder\.onnx is damaged"):
        MimiCodec(artifact)


def test_a_truncated_graph_is_found(artifact: Path) -> None:
    graph = artifact / "encoder.onnx"
    graph.write_bytes(graph.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match=r"encoder\.onnx has .* bytes"):
        MimiCodec(artifact)


def test_a_manifest_that_lies_about_a_shape_is_found(artifact: Path) -> None:
    text = (artifact / "manifest.toml").read_text(encoding="utf-8")
    first = text.index('name = "attn_mask"')
    at = text.index("shape", first)
    end = text.index("]", at)
    (artifact / "manifest.toml").write_text(text[:at] + "shape = [2, 1, 13" + text[end:])
    with pytest.raises(ArtifactError, match="attn_mask"):
        MimiCodec(artifact)


def test_an_artifact_of_another_kind_is_refused(artifact: Path) -> None:
    write_manifest(artifact, replace(read_manifest(artifact), kind="moshi"))
    with pytest.raises(ArtifactError, match="'moshi'"):
        MimiCodec(artifact)


def test_a_config_without_its_keys_is_refused(artifact: Path) -> None:
    manifest = read_manifest(artifact)
    config = {key: value for key, value in manifest.config.items() if key != "context"}
    write_manifest(artifact, replace(manifest, config=config))
    with pytest.raises(ArtifactError, match="context"):
        MimiCodec(artifact)


def test_a_state_of_another_model_is_refused(
    codec: MimiCodec, artifact: Path, tmp_path: Path
) -> None:
    (artifact / "note.txt").write_text("another artifact", encoding="utf-8")
    manifest = read_manifest(artifact)
    files = (*manifest.files, record_file(artifact, "note.txt"))
    write_manifest(artifact, replace(manifest, files=files))
    codec.save_state(codec.start(), tmp_path / "state")
    with pytest.raises(ArtifactError, match="another model"):
        MimiCodec(artifact).load_state(tmp_path / "state")


def test_the_first_preset_that_fits_is_chosen() -> None:
    choice = choose_codec([GOLDEN / "mimi", GOLDEN / "absent"], max_step_ms=10_000)
    assert choice.codec.recipe == "float"
    assert choice.tried["float"].p50_ms <= choice.tried["float"].p99_ms
    assert "float" in choice.reason
    with pytest.raises(DeadlineError, match="float"):
        choose_codec([GOLDEN / "mimi"], max_step_ms=0)


@pytest.fixture
def presets(tmp_path: Path) -> Path:
    """A folder of two presets: the same graphs, one said to be int8 and with a file less."""
    for name in ("a", "b"):
        shutil.copytree(GOLDEN / "mimi", tmp_path / "codec" / name)
    (tmp_path / "codec" / "b" / "more.bin").write_bytes(bytes(100))
    for name, recipe, files in (("a", "int8", ()), ("b", "float", ("more.bin",))):
        place = tmp_path / "codec" / name
        manifest = read_manifest(place)
        records = (*manifest.files, *(record_file(place, file) for file in files))
        write_manifest(place, replace(manifest, files=records, recipe=RecipeRecord(recipe, {})))
    (tmp_path / "codec" / "notes.txt").write_text("not an artifact", encoding="utf-8")
    return tmp_path / "codec"


def test_presets_are_found_most_precise_first(presets: Path) -> None:
    assert find_presets(presets) == {"float": presets / "b", "int8": presets / "a"}
    assert find_presets(GOLDEN / "mimi") == {"float": GOLDEN / "mimi"}
    assert open_codec(presets).codec.recipe == "float"
    assert open_codec(presets, preset="int8").codec.recipe == "int8"
    auto = open_codec(presets, preset="auto")
    assert list(auto.tried) == ["float"]
    assert auto.reason.startswith("float: ")
    assert open_codec(GOLDEN / "mimi", preset="auto").tried == {}


def test_a_folder_of_presets_that_do_not_fit_together_is_refused(presets: Path) -> None:
    with pytest.raises(UsageError, match="it has float, int8"):
        open_codec(presets, preset="tiny")
    with pytest.raises(ArtifactError, match="holds no codec"):
        find_presets(presets.parent)
    manifest = read_manifest(presets / "a")
    write_manifest(presets / "a", replace(manifest, recipe=RecipeRecord()))
    with pytest.raises(ArtifactError, match="both float"):
        find_presets(presets)
    write_manifest(presets / "a", replace(manifest, sources=()))
    with pytest.raises(ArtifactError, match="different codecs"):
        find_presets(presets)
