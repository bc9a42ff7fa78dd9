"""The language model's role, on the starter model."""

from __future__ import annotations

import gc
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.errors import ModelDamagedError, ShapeError
from edge.store import ModelStore
from runtime.backends.llama import ContextOptions, LlamaModel
from runtime.engines.context import Conversation, Turn, messages
from runtime.engines.persona import default_context
from runtime.engines.turns import OPEN_P
from runtime.models.llm import ChatModel, ChatState, Sampling, choose

pytestmark = pytest.mark.real

PROMPT = Conversation(default_context("You are a voice assistant. Answer in one short sentence."))


@pytest.fixture(scope="module")
def gguf(starter_models: ModelStore) -> Path:
    (path,) = starter_models.files("smollm2-135m-instruct").values()
    return path


@pytest.fixture(scope="module")
def chat(gguf: Path) -> Iterator[ChatModel]:
    model = ChatModel(gguf, n_ctx=1024)
    yield model
    model.close()


@pytest.fixture
def state(chat: ChatModel) -> Iterator[ChatState]:
    made = chat.start(seed=0, opening=messages(PROMPT, ""))
    yield made
    chat.finish(made)


def answer(chat: ChatModel, state: ChatState, question: str) -> str:
    return "".join(chat.reply(state, messages(PROMPT, question), Sampling()))


def test_a_fact_is_known(chat: ChatModel, state: ChatState) -> None:
    assert "Paris" in answer(chat, state, "What is the capital of France?")


def test_a_kept_prefix_changes_no_word(chat: ChatModel, state: ChatState) -> None:
    empty = chat.start(seed=0)
    warm = answer(chat, state, "What do bees make?")
    assert warm == answer(chat, empty, "What do bees make?")
    chat.finish(empty)


def test_the_number_of_cores_changes_no_number(chat: ChatModel, state: ChatState) -> None:
    found = []
    for n_cores in (1, 2):
        other = chat.start(seed=0, opening=messages(PROMPT, ""))
        chat.use_cores(other, n_cores)
        whole_p = chat.completeness(other, messages(PROMPT, "What do bees make?"))
        found.append((whole_p, answer(chat, other, "What do bees make?")))
        chat.finish(other)
    assert found[0] == found[1]


def test_the_opening_is_evaluated_only_once(chat: ChatModel, state: ChatState) -> None:
    again = chat.start(seed=0, opening=messages(PROMPT, ""))
    assert again.tokens == state.tokens
    n_new = chat.prefill(again, messages(PROMPT, "What do bees make?"))
    assert 0 < n_new < 20
    chat.finish(again)


def test_reading_ahead_leaves_little_to_read(chat: ChatModel, state: ChatState) -> None:
    chat.prefill(state, messages(PROMPT, "How many legs does a"), open_turn=True)
    assert chat.prefill(state, messages(PROMPT, "How many legs does a spider have?")) <= 10
    assert "eight" in answer(chat, state, "How many legs does a spider have?").lower()


def test_a_corrected_question_forgets_the_wrong_one(chat: ChatModel, state: ChatState) -> None:
    chat.prefill(state, messages(PROMPT, "What is the capital of Japan"), open_turn=True)
    assert "honey" in answer(chat, state, "What do bees make?").lower()


@pytest.mark.parametrize(
    ("half", "whole"),
    [
        ("Please tell me the", "Please tell me the capital of Spain."),
        ("Can you tell me.", "Can you tell me what the capital of Germany is?"),
        ("How many legs does a", "How many legs does a spider have?"),
        ("Who wrote", "Who wrote Romeo and Juliet"),
        ("What is the capital", "What is the capital of Japan"),
        ("Set a timer for", "Set a timer for five minutes"),
    ],
)
def test_half_a_sentence_is_told_from_a_whole_one(
    chat: ChatModel, state: ChatState, half: str, whole: str
) -> None:
    assert chat.completeness(state, messages(PROMPT, half)) < OPEN_P
    assert chat.completeness(state, messages(PROMPT, whole)) > 0.1


def test_it_stops_when_nobody_wants_more(chat: ChatModel, state: ChatState) -> None:
    n_left = iter([True, True, True, False])
    said = messages(PROMPT, "Tell me a story.")
    pieces = list(chat.reply(state, said, Sampling(), wanted=lambda: next(n_left)))
    assert len(pieces) == 3


def test_what_was_said_is_part_of_the_next_question(chat: ChatModel, state: ChatState) -> None:
    grown = PROMPT.with_turn(Turn("What is the capital of France?", "It is Paris."))
    said = messages(grown, "And of Japan?")
    assert "Tokyo" in "".join(chat.reply(state, said, Sampling()))


def test_forgetting_old_turns_costs_next_to_nothing(chat: ChatModel, state: ChatState) -> None:
    grown = PROMPT
    for city, country in (("Rome", "Italy"), ("Madrid", "Spain"), ("Oslo", "Norway")):
        grown = grown.with_turn(
            Turn(f"What is the capital of {country}?", f"The capital of {country} is {city}.")
        )
    chat.prefill(state, messages(grown, "And"))
    less = replace(grown, turns=grown.turns[1:])
    assert chat.prefill(state, messages(less, "What do bees make?")) < 16
    assert "honey" in "".join(chat.reply(state, messages(less, "What do bees make?"), Sampling()))


def test_greedy_takes_the_likeliest_and_sampling_is_seeded() -> None:
    logits = np.random.default_rng(0).normal(size=500).astype(np.float32)
    greedy = choose(logits, [], Sampling(repeat_penalty=1.0), np.random.default_rng(0))
    assert greedy == int(logits.argmax())
    hot = Sampling(temperature=1.0, top_k=50)
    draws = [
        [choose(logits, [], hot, rng) for _ in range(20)]
        for rng in (np.random.default_rng(3), np.random.default_rng(3))
    ]
    assert draws[0] == draws[1]
    best = set(np.argsort(logits)[-50:].tolist())
    assert set(draws[0]) <= best
    assert len(set(draws[0])) > 3


def test_repetition_is_penalised_without_touching_the_logits() -> None:
    logits = np.array([2.0, 1.9, -1.0], np.float32)
    before = logits.copy()
    token = choose(logits, [0], Sampling(repeat_penalty=1.5), np.random.default_rng(0))
    assert token == 1
    assert np.array_equal(logits, before)


def test_a_truncated_gguf_is_refused_in_one_line(gguf: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    with gguf.open("rb") as whole:
        broken.write_bytes(whole.read(1_000_000))
    with pytest.raises(ModelDamagedError, match=r"broken\.gguf: llama\.cpp cannot load it"):
        ChatModel(broken, n_ctx=64)


def test_a_full_cache_is_an_error_and_not_a_crash(gguf: Path) -> None:
    model = LlamaModel(gguf)
    context = model.context(ContextOptions(n_ctx=64, n_batch=32))
    tokens = model.tokenize("word " * 400)
    with pytest.raises((ShapeError, ModelDamagedError)):
        context.decode_tokens(tokens, 0)
    context.close()
    model.close()


def test_a_saved_cache_continues_where_it_was(gguf: Path) -> None:
    model = LlamaModel(gguf)
    tokens = model.tokenize("The capital of France is")
    first = model.context(ContextOptions(n_ctx=128, n_batch=32))
    first.decode_tokens(tokens[:-1], 0)
    second = model.context(ContextOptions(n_ctx=128, n_batch=32))
    second.load(first.save())
    a = first.decode_tokens(tokens[-1:], len(tokens) - 1).copy()
    b = second.decode_tokens(tokens[-1:], len(tokens) - 1).copy()
    assert np.array_equal(a, b)
    for context in (first, second):
        context.close()
    model.close()


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what is mapped")
def test_weights_that_nobody_refers_to_leave_memory(gguf: Path, tmp_path: Path) -> None:
    own = Path(shutil.copy(gguf, tmp_path / "own.gguf"))
    model = LlamaModel(own)
    context = model.context(ContextOptions(n_ctx=64))
    del model
    gc.collect()
    assert own.name in Path("/proc/self/maps").read_text()
    assert len(context.decode_tokens([1, 2], 0)) > 0
    del context
    gc.collect()
    assert own.name not in Path("/proc/self/maps").read_text()
