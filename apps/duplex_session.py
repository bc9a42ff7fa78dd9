"""A duplex engine as a conversation wants it: placed, timed here, planned, able to step down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from apps.mini import shipped_model
from edge.config import Config
from edge.errors import UsageError
from edge.paths import prompt_cache_dir
from runtime.cores import available_cores
from runtime.engines.duplex import DuplexEngine, DuplexOptions, open_duplex
from runtime.engines.engine import Engine
from runtime.engines.ladder import Ladder
from runtime.plan import LivePlan, StepDown, live_plan

# What reading a cache reaches where nothing was measured yet; DDR4 with one channel.
_LEAST_GB_S = 8.0


@dataclass(frozen=True, slots=True)
class OpenedDuplex:
    """An engine that is warm, and what was found out about it here."""

    engine: DuplexEngine
    plan: LivePlan


def open_planned(config: Config, now_ns: Callable[[], int]) -> OpenedDuplex:
    """Load and warm up the model of [talk], and choose how to run it from what a step took.

    Without a model of the user's choice it is the miniature that comes with edgevoice. Raises
    ModelMissingError where that is not there, and what open_duplex raises.
    """
    wanted = config.duplex
    prompted = bool(config.talk.voice) or config.talk.prompt != Config().talk.prompt
    options = DuplexOptions(
        prompted=prompted,
        prompt_cache=prompt_cache_dir(),
        kv="q8_0" if wanted.kv == "q8_0" else "f16" if wanted.kv == "f16" else "auto",
        overlap=wanted.overlap == "on",
        duck_db=config.audio.duck_db,
        own_voice=config.turns.own_words,
    )
    engine = open_duplex(
        Path(config.talk.model) if config.talk.model else shipped_model(),
        threads=config.cpu.cores or available_cores(),
        device=wanted.device,
        depth_device=wanted.depth_device,
        codec_device=wanted.codec_device,
        options=options,
        now_ns=now_ns,
    )
    engine.warm_up()
    found = plan_of(engine)
    if wanted.kv == "auto" and found.kv == "q8_0":
        options = replace(options, kv="q8_0")
    if wanted.overlap == "auto":
        options = replace(options, overlap=found.overlap)
    engine.options = options
    return OpenedDuplex(engine, found)


def plan_of(engine: DuplexEngine) -> LivePlan:
    """How to run a warm engine: from its measured step, and its cache when that is full."""
    measured, model = engine.measured, engine.model
    if measured is None:
        raise UsageError("an engine is planned after it was warmed up")
    cache_ms = model.cache_bytes(model.spec.context) / 1e6 / _LEAST_GB_S
    return live_plan(measured.step_ms, measured.decode_ms, cache_ms, small_cache=model.small_cache)


def with_ladder(
    config: Config, engine: DuplexEngine, open_below: Callable[[], Engine[Any]] | None
) -> Ladder:
    """The engine, able to step down as [duplex] says."""
    late = config.duplex.late_frames
    return Ladder(engine, open_below, watch=lambda: StepDown(n_late=late))
