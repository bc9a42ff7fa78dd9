"""A whole multistream model against golden tokens of the official loops, and its laws."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import ArtifactError, ShapeError, UsageError
from runtime.models.moshi import MoshiModel
from runtime.models.multistream.prompting import Prompt, VoicePrompt, plan_prompt
from runtime.models.multistream.state import MoshiState
from tests.moshi_models import CONFIGS, export_model, old_names, random_weights, user_codes

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
NOT_YET = -9
SEED = 1

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("llama_cpp", "onnx", "onnxruntime")),
    reason="needs llama-cpp-python, onnx and onnxruntime: pip install 'edgevoice[cascade,export]'",
)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    return Artifacts(tmp_path_factory.mktemp("moshi"))


class Artifacts:
    """Each configuration exported once, when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = cache(self._export)

    def _export(self, name: str) -> Path:
        weights = random_weights(CONFIGS[name], SEED)
        named = old_names(weights) if name.startswith("personaplex") else weights
        return export_model(self._folder / name, CONFIGS[name], named)

    def model(self, name: str) -> MoshiModel:
        return MoshiModel(self.path(name))


def run(model: MoshiModel, state: MoshiState, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tokens int64 (n, 1 + codes), NOT_YET where there were none."""
    n_codes = model.spec.depth_steps
    rows = []
    for frame in codes:
        state, out = model.step(state, frame)
        if out.text_token is None:
            assert out.codes is None
            rows.append([NOT_YET] * (1 + n_codes))
        else:
            rows.append([out.text_token, *([] if out.codes is None else out.codes.tolist())])
    return np.array(rows)


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - {"personaplex_loop"}))
def test_greedy_tokens_are_the_official_ones_on_every_frame(
    artifacts: Artifacts, name: str
) -> None:
    golden = np.load(GOLDEN / "moshi_tokens.npz")[name]
    model = artifacts.model(name)
    state = model.start(seed=0, greedy=True)
    tokens = run(model, state, user_codes(CONFIGS[name], len(golden), SEED))
    np.testing.assert_array_equal(tokens, golden)
    assert len(np.unique(tokens[:, 0])) > 20  # a model that always says the same proves nothing
    state.close()


def test_guidance_by_a_second_row_is_the_official_one(artifacts: Artifacts) -> None:
    golden = np.load(GOLDEN / "moshi_tokens.npz")["hibiki_guided"]
    model = artifacts.model("hibiki")
    state = model.start(seed=0, greedy=True, guidance=3.0)
    tokens = run(model, state, user_codes(CONFIGS["hibiki"], len(golden), SEED))
    np.testing.assert_array_equal(tokens, golden)
    state.close()


def test_hidden_states_and_text_logits_are_the_official_ones(artifacts: Artifacts) -> None:
    golden = np.load(GOLDEN / "moshi_tokens.npz")
    model = artifacts.model("moshi")
    state = model.start(seed=0, greedy=True)
    for i, frame in enumerate(user_codes(CONFIGS["moshi"], 300, SEED)):
        state, _ = model.step(state, frame)
        if i % 10 == 0:
            assert np.abs(state.hidden[0] - golden["hidden"][i // 10]).max() < 1e-4
            assert np.abs(state.logits - golden["text_logits"][i // 10]).max() < 1e-4
    state.close()


@pytest.mark.parametrize("prompted", [False, True])
def test_personaplex_says_the_same_one_frame_earlier(artifacts: Artifacts, prompted: bool) -> None:
    golden = np.load(GOLDEN / "moshi_personaplex_loop.npz")
    theirs = golden["prompted" if prompted else "plain"]
    model = artifacts.model("personaplex_loop")
    prompt = None
    if prompted:
        voice = VoicePrompt(codes=golden["voice"].astype(np.int64))
        prompt = Prompt(tuple(golden["text_prompt"].tolist()), voice)
    state = model.start(seed=0, greedy=True, prompt=prompt)
    tokens = run(model, state, user_codes(CONFIGS["personaplex_loop"], len(theirs), SEED))
    np.testing.assert_array_equal(tokens[:-1], theirs[1:, :9])
    state.close()


def small_prompt() -> Prompt:
    rng = np.random.default_rng(4)
    voice = VoicePrompt(codes=rng.integers(0, 32, (9, 4)))
    return Prompt((4, 9, 2, 30), voice, silence=(1, 2, 3, 4), tone=(5, 6, 7, 8))


def test_a_prompt_in_one_batch_is_a_prompt_frame_by_frame(artifacts: Artifacts) -> None:
    model = artifacts.model("personaplex")
    plan = plan_prompt(small_prompt(), model.spec.layout, padding_id=3, dim=model.spec.dim)
    states = [model.start(seed=0, greedy=True) for _ in range(2)]
    for state, batch in zip(states, (64, 1), strict=True):
        model.run_plan(state, plan, batch=batch)
    assert np.abs(states[0].hidden - states[1].hidden).max() < 1e-5
    assert states[0].context.span() == (0, plan.n_positions - 1)
    for state in states:
        state.close()


def test_a_recorded_voice_is_the_voice_itself(artifacts: Artifacts) -> None:
    """Inputs recorded while a voice was heard give what hearing it again gives."""
    model = artifacts.model("personaplex")
    prompt = small_prompt()
    layout, dim = model.spec.layout, model.spec.dim
    whole = plan_prompt(prompt, layout, padding_id=3, dim=dim)
    n = 8  # of nine frames of voice, all but the last position are recorded
    recorded = VoicePrompt(
        embeddings=np.array([model.embed(column) for column in whole.columns[:n]]),
        columns=np.stack(
            [whole.columns[n], np.where(np.array(layout.delays) > 0, whole.columns[n + 1], -2)]
        ),
    )
    replayed = Prompt(prompt.text_tokens, recorded, prompt.silence, prompt.tone)
    plan = plan_prompt(replayed, layout, padding_id=3, dim=dim)
    np.testing.assert_array_equal(plan.columns, whole.columns[n:])
    assert plan.n_positions == whole.n_positions


def test_a_prompt_from_the_cache_is_the_prompt(artifacts: Artifacts, tmp_path: Path) -> None:
    model = artifacts.model("personaplex")
    codes = user_codes(CONFIGS["personaplex"], 30, 3)
    runs = []
    for _ in range(2):
        state = model.start(seed=7, prompt=small_prompt(), prompt_cache=tmp_path)
        runs.append(run(model, state, codes))
        state.close()
    kept = list(tmp_path.iterdir())
    assert len(kept) == 1
    np.testing.assert_array_equal(*runs)
    kept[0].write_bytes(kept[0].read_bytes()[:1000])
    state = model.start(seed=7, prompt=small_prompt(), prompt_cache=tmp_path)
    np.testing.assert_array_equal(run(model, state, codes), runs[0])
    state.close()


def test_a_saved_conversation_goes_on_as_if_nothing_had_happened(
    artifacts: Artifacts, tmp_path: Path
) -> None:
    model = artifacts.model("short_context")
    codes = user_codes(CONFIGS["short_context"], 140, 3)
    state = model.start(seed=5)
    run(model, state, codes[:70])
    model.save(state, tmp_path / "talk.state")
    expected = run(model, state, codes[70:])
    state.close()
    other = MoshiModel(artifacts.path("short_context"))
    restored = other.restore(tmp_path / "talk.state")
    np.testing.assert_array_equal(run(other, restored, codes[70:]), expected)
    restored.close()


def test_a_saved_conversation_of_another_model_is_refused(
    artifacts: Artifacts, tmp_path: Path
) -> None:
    model, other = artifacts.model("moshi"), artifacts.model("short_context")
    state = model.start(seed=5)
    model.save(state, tmp_path / "talk.state")
    state.close()
    with pytest.raises(ArtifactError, match="another model"):
        other.restore(tmp_path / "talk.state")
    (tmp_path / "talk.state").write_bytes(b"PK not really")
    with pytest.raises(ArtifactError, match="cut short"):
        model.restore(tmp_path / "talk.state")


def test_equal_seeds_give_equal_conversations_and_others_differ(artifacts: Artifacts) -> None:
    model = artifacts.model("moshi")
    codes = user_codes(CONFIGS["moshi"], 40, 3)
    first, same, other = (run(model, model.start(seed=seed), codes) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


def test_two_conversations_do_not_disturb_each_other(artifacts: Artifacts) -> None:
    model = artifacts.model("moshi")
    codes = user_codes(CONFIGS["moshi"], 40, 3)
    alone = run(model, model.start(seed=1), codes)
    one, two = model.start(seed=1), model.start(seed=9)
    rows = []
    for frame, noise in zip(codes, reversed(codes), strict=True):
        one, out = model.step(one, frame)
        two, _ = model.step(two, noise)
        codes_out = [] if out.codes is None else out.codes.tolist()
        rows.append([NOT_YET] * 5 if out.text_token is None else [out.text_token, *codes_out])
    np.testing.assert_array_equal(np.array(rows), alone)


def test_a_long_conversation_with_a_prompt_stays_within_the_context(artifacts: Artifacts) -> None:
    model = artifacts.model("personaplex")
    state = model.start(seed=2, prompt=small_prompt(), context=60)
    n_prefix = state.window.n_prefix
    for frame in user_codes(CONFIGS["personaplex"], 200, 3):
        state, _ = model.step(state, frame)
        first, last = state.context.span()
        assert first == 0
        assert last < 60
    assert state.window.first == n_prefix
    state.close()


def test_a_half_precision_cache_is_close(artifacts: Artifacts) -> None:
    model = artifacts.model("moshi")
    states = [model.start(seed=0, greedy=True, kv=kv) for kv in ("f32", "f16")]
    for frame in user_codes(CONFIGS["moshi"], 3, 3):
        states = [model.step(state, frame)[0] for state in states]
    assert 0 < np.abs(states[0].hidden - states[1].hidden).max() < 0.05


def test_an_eight_bit_cache_is_close_and_survives_shifts(
    artifacts: Artifacts, tmp_path: Path
) -> None:
    """Through the shifts of a prompted conversation; narrow heads are refused."""
    raw = CONFIGS["personaplex"] | {"dim": 128, "num_heads": 2}
    model = MoshiModel(export_model(tmp_path, raw, random_weights(raw, SEED)))
    states = [
        model.start(seed=0, greedy=True, kv=kv, prompt=small_prompt(), context=60)
        for kv in ("f32", "q8_0")
    ]
    away, shifts = [], 0
    for frame in user_codes(raw, 100, 3):
        hidden = []
        for state in states:
            state.line.write_user(frame)
            model.run_temporal(state, state.line.model_input())
            hidden.append(state.hidden[0].copy())
            state.line.write_generated(
                5, np.array([1, 2, 3, 4, 5, 6, 7, 8])[: model.spec.depth_steps]
            )
        shifts += states[1].timing.shift_ns > 0
        one, other = hidden
        away.append(float(one @ other / np.linalg.norm(one) / np.linalg.norm(other)))
    with pytest.raises(UsageError, match="multiple of 64"):
        artifacts.model("moshi").start(seed=0, kv="q8_0")
    assert shifts >= 1
    assert 0.995 < min(away) < 1.0
    assert np.mean(away[-20:]) > 0.999
    for state in states:
        state.close()


def test_only_the_prompts_used_last_are_kept(artifacts: Artifacts, tmp_path: Path) -> None:
    model = artifacts.model("personaplex")
    prompts = [
        Prompt((4, 9, token), silence=(1, 2, 3, 4), tone=(5, 6, 7, 8)) for token in range(10)
    ]
    for prompt in prompts:
        model.start(seed=7, prompt=prompt, prompt_cache=tmp_path).close()
    assert len(list(tmp_path.iterdir())) == 8


def test_a_cached_prompt_fits_any_length_of_context(artifacts: Artifacts, tmp_path: Path) -> None:
    model = artifacts.model("personaplex")
    for context in (60, 100):
        state = model.start(seed=7, prompt=small_prompt(), prompt_cache=tmp_path, context=context)
        assert state.window.context == context
        run(model, state, user_codes(CONFIGS["personaplex"], 120, 3))
        state.close()
    assert len(list(tmp_path.iterdir())) == 1


def test_the_cost_of_moving_the_cache_is_told(artifacts: Artifacts) -> None:
    model = artifacts.model("personaplex")
    state = model.start(seed=2, prompt=small_prompt(), context=60)
    costs = []
    for i, frame in enumerate(user_codes(CONFIGS["personaplex"], 100, 3)):
        state, _ = model.step(state, frame, quiet=i % 3 == 0)
        costs.append((i % 3 == 0, state.timing.shift_ns))
    shifted = [quiet for quiet, cost in costs if cost]
    assert shifted
    assert all(shifted)  # a silent frame came in time for every one of them
    state.close()


@pytest.mark.parametrize("codes", [[0, 1, 2], [0, 1, 2, 33], [0, 1, 2, -2]])
def test_bad_codes_are_refused_and_the_conversation_goes_on(
    artifacts: Artifacts, codes: list[int]
) -> None:
    model = artifacts.model("moshi")
    state = model.start(seed=0, greedy=True)
    with pytest.raises(ShapeError, match="user codes"):
        model.step(state, np.array(codes))
    good = user_codes(CONFIGS["moshi"], 5, SEED)
    golden = np.load(GOLDEN / "moshi_tokens.npz")["moshi"]
    np.testing.assert_array_equal(run(model, state, good), golden[:5])


def test_senseless_starts_are_refused(artifacts: Artifacts) -> None:
    model = artifacts.model("moshi")
    with pytest.raises(UsageError, match="guidance"):
        model.start(seed=0, guidance=2.0)
    with pytest.raises(UsageError, match="context"):
        model.start(seed=0, context=4000)
    with pytest.raises(UsageError, match="no condition"):
        model.start(seed=0, conditions={"mood": "good"})
    with pytest.raises(UsageError, match="shorten"):
        model.start(seed=0, prompt=small_prompt(), context=20)
    with pytest.raises(UsageError, match="want one of"):
        artifacts.model("hibiki").start(seed=0, conditions={"description": "superb"})


def test_a_flipped_byte_is_noticed_before_anything_is_loaded(
    artifacts: Artifacts, tmp_path: Path
) -> None:
    import shutil

    for name in ("temporal.gguf", "depth.onnx.data", "text_embedding.npy"):
        folder = tmp_path / name
        shutil.copytree(artifacts.path("moshi"), folder)
        raw = bytearray((folder / name).read_bytes())
        raw[-5] ^= 0x10
        (folder / name).write_bytes(raw)
        with pytest.raises(ArtifactError, match="damaged"):
            MoshiModel(folder)
