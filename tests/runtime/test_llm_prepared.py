"""The prepared copy of a language model: made whole, used only if right, and the same model."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from edge.lock import read_lock
from edge.store import ModelStore
from runtime.backends.llama import ContextOptions, LlamaModel
from runtime.models.llm_prepared import is_prepared_here, prepare, prepared, prepared_home

NAME = "smollm2-135m-instruct"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not is_prepared_here(read_lock().get(NAME)), reason="this processor needs no prepared copy"
    ),
]


@pytest.fixture
def store(starter_models: ModelStore, tmp_path: Path) -> ModelStore:
    """A models folder of its own, with the starter language model in it."""
    own = ModelStore(starter_models.lock, tmp_path)
    own.home(NAME).mkdir(parents=True)
    for name, path in starter_models.files(NAME).items():
        shutil.copy(path, own.home(NAME) / name)
    return own


def test_a_copy_is_made_once_found_again_and_refused_when_a_byte_differs(
    store: ModelStore, caplog: pytest.LogCaptureFixture
) -> None:
    assert prepared(store, NAME) is None
    made = prepare(store, NAME)
    assert prepared(store, NAME) == made == prepare(store, NAME)
    assert sorted(p.name for p in prepared_home(store, NAME).parent.iterdir()) == [f"{NAME}-q8_0"]
    with made.open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"x" * 16)
    with caplog.at_level(logging.WARNING):
        assert prepared(store, NAME) is None
    assert "damaged" in caplog.text
    assert prepared(store, NAME) is None or prepare(store, NAME) == made


def test_the_copy_says_what_the_original_says(store: ModelStore) -> None:
    """Nearly: 8 bits over 4 leave the next word as it was."""
    (original,) = store.files(NAME).values()
    said = []
    for path in (original, prepare(store, NAME)):
        model = LlamaModel(path)
        context = model.context(ContextOptions(n_ctx=128, n_batch=64))
        tokens = model.tokenize("The capital of France is Paris, and the capital of Germany is")
        logits = context.decode_tokens(tokens, 0).astype(np.float64)
        said.append(logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max())
        context.close()
        model.close()
    first, second = said
    assert first.argmax() == second.argmax()
    assert float(np.sum(np.exp(first) * (first - second))) < 0.01
