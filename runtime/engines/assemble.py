"""Puts a cascade together from verified model files: which model fills which role."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edge.config import Config
from edge.store import ModelStore
from runtime.cores import CoreBudget, available_cores
from runtime.engines.cascade import CascadeEngine
from runtime.engines.cascade_state import CascadeConfig
from runtime.engines.draft import Crew, DraftMaker
from runtime.engines.roles import Roles, Speaker
from runtime.engines.speakable import load_speller, speakable
from runtime.engines.turns import TurnPolicy
from runtime.engines.workers import ThreadWorker
from runtime.models.asr import Recogniser
from runtime.models.kokoro import KokoroVoice
from runtime.models.llm import ChatModel
from runtime.models.llm_prepared import prepared
from runtime.models.tts import Voice
from runtime.models.turn import EndOfTurn
from runtime.models.vad import Vad

CTX_MARGIN_TOKENS = 1024  # room for the longest question and its reply beyond the budget


def open_cascade(
    config: Config,
    store: ModelStore,
    *,
    now_ns: Callable[[], int],
    on_error: Callable[[Exception], None],
    talk_key: Callable[[], bool] = lambda: False,
    hush: Callable[[], bool] = lambda: False,
) -> CascadeEngine:
    """Verify and load every role's model and start the workers.

    The models load side by side, because each spends much of its time outside Python. Raises
    ModelMissingError, ModelDamagedError or MissingPackageError, the first that is met.
    """
    names = config.models
    with ThreadPoolExecutor(max_workers=5) as pool:
        activity = pool.submit(lambda: Vad(store.files(names.vad)))
        recogniser = pool.submit(lambda: Recogniser(store.files(names.asr)))
        end_of_turn = pool.submit(lambda: EndOfTurn(store.files(names.turn)))
        chat = pool.submit(lambda: _chat(config, store))
        voice = pool.submit(lambda: _voice(config, store))
        speller = load_speller()
        roles = Roles(
            activity.result().start,
            recogniser.result(),
            end_of_turn.result(),
            chat.result(),
            voice.result(),
            lambda text: speakable(speller, text),
        )
    crew = Crew(
        ThreadWorker("ear", on_error=on_error),
        ThreadWorker("judge", on_error=on_error),
        ThreadWorker("mind", on_error=on_error),
        ThreadWorker("mouth", on_error=on_error, room=128),
    )
    cores = CoreBudget(config.cpu.cores or available_cores())
    maker = DraftMaker(roles, crew, cores, now_ns)
    return CascadeEngine(maker, cascade_config(config), talk_key, hush)


def cascade_config(config: Config) -> CascadeConfig:
    """The engine's own configuration out of the user's."""
    policy = TurnPolicy(
        adaptive=config.turns.policy == "adaptive",
        push_to_talk=config.turns.policy == "push-to-talk",
        patient_ms=config.turns.end_silence_ms,
        open_ms=config.turns.max_pause_ms,
        barge_in=config.turns.barge_in,
        backchannel_ms=config.turns.backchannel_ms,
    )
    return CascadeConfig(
        policy,
        budget_tokens=config.context.budget_tokens,
        stop_words=tuple(config.turns.stop_words),
        ahead=config.turns.ahead,
        duck_db=config.audio.duck_db,
        faint_db=config.turns.faint_db,
        own_words=config.turns.own_words,
    )


def chat_file(config: Config, store: ModelStore) -> Path:
    """The chosen language model's file, as prepared for this machine where it is."""
    name = config.models.llm
    gguf = prepared(store, name) if config.models.prepared else None
    if gguf is None:
        (gguf,) = (path for path in store.files(name).values() if path.suffix == ".gguf")
    return gguf


def _chat(config: Config, store: ModelStore) -> ChatModel:
    return ChatModel(
        chat_file(config, store), n_ctx=config.context.budget_tokens + CTX_MARGIN_TOKENS
    )


def _voice(config: Config, store: ModelStore) -> Speaker:
    name = config.models.tts
    if store.lock.get(name).format != "kokoro":
        return Voice(store.files(name))
    starter = next(entry.name for entry in store.lock.starter() if entry.role == "tts")
    speller = Voice(store.files(starter))
    return KokoroVoice(store.files(name), speller.phonemes, voice=config.talk.voice)
