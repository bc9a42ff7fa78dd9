"""The published size, end to end: minutes of work, so only where EDGE_SLOW=1 asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytestmark = pytest.mark.skipif(
    os.environ.get("EDGE_SLOW") != "1", reason="takes minutes; EDGE_SLOW=1 runs it"
)
torch = pytest.importorskip("torch", reason="the nets are torch modules")
pytest.importorskip("moshi", reason="the official package is the oracle")
from safetensors.torch import save_file  # noqa: E402

from edge.frame import SAMPLE_RATE_HZ  # noqa: E402
from edge.wav import read_mono  # noqa: E402
from export.checkpoint import read_checkpoint  # noqa: E402
from export.mimi import export_mimi  # noqa: E402
from export.mimi_config import MimiConfig  # noqa: E402
from quant.mimi_compare import compare_codecs  # noqa: E402
from quant.recipe import load_recipe  # noqa: E402
from quant.run import quantize  # noqa: E402
from quant.subject import open_subject  # noqa: E402
from runtime.models.mimi import MimiCodec  # noqa: E402
from runtime.models.mimi_probe import probe_sound  # noqa: E402
from tests.export.mimi_hub import hub_layout, hub_model, hub_run  # noqa: E402
from tests.export.mimi_oracle import official_mimi, published_state  # noqa: E402

N_FRAMES = 400
SPEECH = Path(__file__).resolve().parents[3] / "shared" / "speech"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    """The official model with seeded weights, and its float artifact."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("full")
    official = official_mimi(None, seed=1, n_codebooks=8)
    save_file(published_state(official), home / "full.safetensors")
    made = export_mimi(home / "full.safetensors", home / "float")
    assert made.parity.equal == (1.0,) * 8
    yield official, home / "float"
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", ["speech", "voices", "noise"])
def test_every_code_and_every_sample_is_the_official_models(
    made: tuple[Any, Path], kind: str
) -> None:
    official, artifact = made
    codec = MimiCodec(artifact)
    frames = _sound(kind)
    state = codec.start()
    with torch.no_grad(), official.streaming(1):
        for pcm in frames:
            codes = official.encode(torch.from_numpy(pcm)[None, None])
            want = official.decode(codes)[0, 0].numpy()
            state, found = codec.encode(state, pcm)
            np.testing.assert_array_equal(found, codes[0, :, 0].numpy())
            state, heard = codec.decode(state, found)
            assert np.abs(heard - want).max() <= 1e-5


def test_the_hub_layout_gives_the_hub_models_codes_and_samples(
    made: tuple[Any, Path], tmp_path: Path
) -> None:
    pytest.importorskip("transformers", reason="the second oracle")
    config = MimiConfig()
    weights = read_checkpoint(made[1].parent / "full.safetensors", config)
    weights = {name: each for name, each in weights.items() if not name.endswith("_initialized")}
    save_file(hub_layout(weights, config), tmp_path / "hub.safetensors")
    export_mimi(tmp_path / "hub.safetensors", tmp_path / "float")
    frames = probe_sound(120, seed=25)  # within the ring
    codes, wave = hub_run(hub_model(weights, config), frames, n_codebooks=8)
    codec = MimiCodec(tmp_path / "float")
    state = codec.start()
    for index, pcm in enumerate(frames):
        state, found = codec.encode(state, pcm)
        np.testing.assert_array_equal(found, codes[index])
        state, heard = codec.decode(state, found)
        assert np.abs(heard - wave[index]).max() <= 1e-5


def test_presets_keep_what_they_promise(made: tuple[Any, Path], tmp_path: Path) -> None:
    _, artifact = made
    reference, frames = MimiCodec(artifact), probe_sound(150, seed=23)
    found = {}
    for name in ("transparent", "int8", "tiny"):
        quantize(open_subject(artifact), load_recipe(name), tmp_path / name)
        found[name] = compare_codecs(reference, MimiCodec(tmp_path / name), frames)
        print(name, [f"{share:.3f}" for share in found[name].equal], f"{found[name].snr_db:.1f} dB")
    assert found["transparent"].equal[0] >= 0.97
    assert found["transparent"].snr_db > found["int8"].snr_db > 35
    assert found["int8"].snr_db > found["tiny"].snr_db > 5


def test_ten_thousand_frames_leave_no_trace_in_memory(
    made: tuple[Any, Path], tmp_path: Path
) -> None:
    """Memory after the first thousand frames and after ten thousand differs by less than 1 MB."""
    _, artifact = made
    quantize(open_subject(artifact), load_recipe("int8"), tmp_path / "int8")
    codec = MimiCodec(tmp_path / "int8")
    state, frames = codec.start(), probe_sound(100, seed=24)
    sizes_kb = []
    for turn in range(100):
        for pcm in frames:
            state, codes = codec.encode(state, pcm)
            state, _ = codec.decode(state, codes)
        if turn in (9, 99):
            sizes_kb.append(_resident_kb())
    assert state.n_decoded == 10_000
    assert sizes_kb[1] - sizes_kb[0] < 1_000


def _sound(kind: str) -> NDArray[np.float32]:
    """32 s of recorded speech, of gliding tones with pauses, or of noise, as frames."""
    frames = probe_sound(N_FRAMES, seed=21)
    if kind == "noise":
        return np.random.default_rng(22).normal(0, 0.1, frames.shape).astype(np.float32)
    if kind == "speech":
        recordings = sorted(SPEECH.glob("*.flac"))
        if not recordings:
            pytest.skip(f"no recordings at {SPEECH}")
        n_samples, pieces = 0, []
        while n_samples < frames.size:
            pieces.append(read_mono(recordings[len(pieces) % len(recordings)], SAMPLE_RATE_HZ))
            n_samples += len(pieces[-1])
        return np.concatenate(pieces)[: frames.size].reshape(frames.shape)
    return frames


def _resident_kb() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024
