"""The official package itself, where it is installed, against what was exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.models.moshi import MoshiModel
from runtime.models.multistream.sampling import Sampling, draw, gumbel
from tests.moshi_models import CONFIGS, export_model, random_weights, user_codes
from tests.moshi_oracle import NOT_YET, official_model, official_tokens

pytest.importorskip("moshi", reason="pip install --no-deps moshi einops sphn")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SEED, N_FRAMES = 11, 40


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - {"personaplex_loop"}))
def test_tokens_states_and_logits_are_those_of_the_official_loop(name: str, tmp_path: Path) -> None:
    """Other weights and codes than the golden ones."""
    raw = CONFIGS[name]
    weights = random_weights(raw, SEED)
    theirs = official_model(tmp_path, raw, weights)
    codes = user_codes(raw, N_FRAMES, SEED)
    tokens, logits, hidden = official_tokens(theirs, raw.get("model_type", "moshi"), codes)
    model = MoshiModel(export_model(tmp_path / "ours", raw, weights))
    state = model.start(seed=0, greedy=True)
    for i, frame in enumerate(codes):
        state, out = model.step(state, frame)
        assert np.abs(state.hidden[0] - hidden[i]).max() < 1e-4
        assert np.abs(state.logits - logits[i]).max() < 1e-4
        if out.text_token is None:
            assert set(tokens[i]) == {NOT_YET}
        else:
            own = [] if out.codes is None else out.codes.tolist()
            assert [out.text_token, *own] == tokens[i].tolist()
    state.close()


def test_a_sampled_run_is_the_official_one_with_the_same_noise(tmp_path: Path) -> None:
    raw = CONFIGS["moshi"]
    weights = random_weights(raw, SEED)
    codes = user_codes(raw, N_FRAMES, SEED)
    text, audio = Sampling(0.7, 25), Sampling(0.8, 20)
    rng = np.random.default_rng(5)
    noise: list[np.ndarray] = []

    def next_token(logits: np.ndarray) -> int:
        """Text, then four codes, each frame; noise in the order in which ours asks for it."""
        if not noise:
            first = draw(logits, text, gumbel(rng, (25,)))
            noise.extend(gumbel(rng, (4, 20)))
            return first
        return draw(logits, audio, noise.pop(0))

    theirs = official_model(tmp_path, raw, weights)
    tokens, _, _ = official_tokens(theirs, "moshi", codes, draw=next_token)
    model = MoshiModel(export_model(tmp_path / "ours", raw, weights))
    state = model.start(seed=5, temperature=0.8, top_k=20, text_temperature=0.7, text_top_k=25)
    for i, frame in enumerate(codes):
        state, out = model.step(state, frame)
        if out.text_token is not None and out.codes is not None:
            assert [out.text_token, *out.codes.tolist()] == tokens[i].tolist()
    assert len(np.unique(tokens[1:, 1])) > 10
    state.close()
