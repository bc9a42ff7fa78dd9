"""A multistream model: user codes in, text token and codes out, one step a frame.

Embedding tables -> main transformer (llama.cpp) -> text token -> depth graph (ONNX) -> delay lines.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge.errors import ArtifactError, UsageError
from runtime.backends.accelerators import choose_accelerator
from runtime.backends.llama import ContextOptions, KvType, LlamaContext, LlamaModel
from runtime.backends.llama_watch import OnProduct
from runtime.backends.ort import AWAKE_WHILE_RUNNING, open_session
from runtime.models.multistream.artifact import open_artifact
from runtime.models.multistream.delays import DelayLine, Int64
from runtime.models.multistream.depth import DepthStep
from runtime.models.multistream.prompting import Prompt, PromptPlan, plan_prompt
from runtime.models.multistream.sampling import draw, gumbel
from runtime.models.multistream.spec import (
    DEPTH_FILE,
    EXTRA_HEADS_FILE,
    TEMPORAL_FILE,
    Conditions,
    Embeddings,
    MoshiSpec,
    map_array,
)
from runtime.models.multistream.state import MoshiState, Settings, StepOut, saved_facts
from runtime.models.multistream.window import Window
from runtime.models.state_file import read_arrays, write_arrays

log = logging.getLogger(__name__)

Float32 = NDArray[np.float32]
Kv = Literal["auto", "f32", "f16", "q8_0"]

_ALL_LAYERS = 999
_PREFILL_BATCH = 64
_KEPT_PROMPTS = 8
# llama.cpp dies when the keys of an 8-bit cache of narrower heads are shifted.
_SMALL_CACHE_HEAD = 64
_KIND = "multistream conversation, form 2"


class MoshiModel:
    """Weights of one artifact; any number of conversations may use them, one step at a time."""

    def __init__(
        self,
        artifact_dir: Path | str,
        *,
        threads: int = 1,
        device: str = "cpu",
        depth_device: str | None = None,
        on_product: OnProduct | None = None,
    ) -> None:
        """Load what the manifest lists, hashes checked.

        device: of the main transformer; depth_device: of the depth graph, the same by default.
        on_product: told what the main transformer's weights are multiplied with.
        Raises ArtifactError, ModelDamagedError, DeviceError, MissingPackageError.
        """
        folder = Path(artifact_dir)
        artifact = open_artifact(folder)
        self.spec: MoshiSpec = artifact.spec
        self.fingerprint = artifact.fingerprint
        self.recipe = artifact.manifest.recipe.name
        self.folder = folder
        self._threads = threads
        self.device = choose_accelerator(device)
        layers = 0 if self.device == "cpu" else _ALL_LAYERS
        self._temporal = LlamaModel(
            folder / TEMPORAL_FILE, n_gpu_layers=layers, repack=False, on_product=on_product
        )
        if (self._temporal.n_embd, self._temporal.n_vocab) != (
            self.spec.dim,
            self.spec.text_card_out,
        ):
            raise ArtifactError(
                f"{TEMPORAL_FILE}: {self._temporal.n_embd} wide with {self._temporal.n_vocab} text "
                f"tokens, the manifest says {self.spec.dim} and {self.spec.text_card_out}"
            )
        self._embeddings = Embeddings(folder, self.spec)
        self.conditions = Conditions(folder, self.spec)
        self._depth = None
        if self.spec.depth_steps:
            self._depth = open_session(
                folder / DEPTH_FILE,
                threads=threads,
                device=depth_device or device,
                config=AWAKE_WHILE_RUNNING if threads > 1 else None,
            )
        self._heads: Float32 | None = None
        if self.spec.n_extra_heads:
            shape = (self.spec.n_extra_heads, self.spec.extra_head_dim, self.spec.dim)
            self._heads = map_array(folder / EXTRA_HEADS_FILE, np.dtype(np.float32), shape)

    def start(
        self,
        *,
        seed: int,
        greedy: bool = False,
        temperature: float | None = None,
        top_k: int | None = None,
        text_temperature: float | None = None,
        text_top_k: int | None = None,
        prompt: Prompt | None = None,
        prompt_cache: Path | None = None,
        conditions: Mapping[str, str] | None = None,
        guidance: float | None = None,
        guided_from: Mapping[str, str] | None = None,
        kv: Kv = "auto",
        context: int | None = None,
    ) -> MoshiState:
        """Begin a conversation. Options left out are those that the checkpoint asks for.

        prompt: what the model hears first; it stays in the context to the end. prompt_cache: a
        folder where the outcome of running a prompt is kept for the next time.
        guidance: how far to go from the conversation under guided_from's conditions to the one
        under conditions; 1 for none, else every step runs two rows. kv: type of the attention
        cache, auto is float32 for float32 weights and float16 otherwise. context: positions that
        are attended to, at most the trained ones. Raises UsageError.
        """
        spec = self.spec
        guidance = spec.guidance if guidance is None else guidance
        n_context = spec.context if context is None else context
        if not 1 < n_context <= spec.context:
            raise UsageError(f"context must be 2..{spec.context}, got {n_context}")
        settings = Settings(
            text=spec.sampling(
                greedy=greedy, temperature=text_temperature, top_k=text_top_k, text=True
            ),
            audio=spec.sampling(greedy=greedy, temperature=temperature, top_k=top_k, text=False),
            guidance=guidance,
            kv=self._kv_type(kv),
            n_context=n_context,
        )
        vectors = [self.conditions.vector(conditions or self._condition("very_good"))]
        if guidance != 1.0:
            if not self.conditions.names or prompt is not None:
                raise UsageError("guidance is for models with conditions and without a prompt")
            vectors.append(self.conditions.vector(guided_from or self._condition("very_bad")))
        plan = None
        if prompt is not None:
            plan = plan_prompt(prompt, spec.layout, padding_id=spec.text_padding_id, dim=spec.dim)
            Window(n_context, n_prefix=plan.n_positions)  # refuses what does not fit
        state = self._new_state(settings, np.stack(vectors), seed)
        if plan is not None:
            self._run_prompt(state, plan, prompt_cache)
        return state

    def save(self, state: MoshiState, path: Path) -> None:
        """Write a whole conversation to a file, all or nothing."""
        write_arrays(path, _KIND, self.fingerprint, state.pack())

    def restore(self, path: Path) -> MoshiState:
        """Go on with a saved conversation, exactly. Raises ArtifactError for any other file."""
        saved = read_arrays(path, _KIND, self.fingerprint)
        try:
            settings = Settings.from_facts(saved_facts(saved)["settings"])
            condition = saved["condition"]
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{path}: its settings cannot be read; remove it") from error
        state = self._new_state(settings, condition, seed=0)
        state.unpack(saved)
        return state

    def step(
        self, state: MoshiState, user_codes: Int64, *, quiet: bool = False
    ) -> tuple[MoshiState, StepOut]:
        """Take what the user said in a frame, int64 (n_user,), and give what the model says.

        Both parts of the answer are None while the delays fill. quiet: nobody speaks in this
        frame, so costly upkeep of the cache that is due soon is done in it.
        Raises ShapeError for codes outside the codebook.
        """
        state.line.write_user(user_codes)
        self.run_temporal(state, state.line.model_input(), quiet=quiet)
        self.write(state)
        out = state.line.output()
        heads = self._extra_heads(state.hidden[0])
        if out is None:
            return state, StepOut(None, None, heads)
        text, codes = out
        return state, StepOut(text, codes if state.depth is not None else None, heads)

    def embed(self, tokens: Int64) -> Float32:
        """The model's input for one position's tokens, int64 (n_streams,) -> float32 (dim,)."""
        return self._embeddings.sum(tokens)

    def run_temporal(self, state: MoshiState, tokens: Int64, *, quiet: bool = False) -> None:
        """Run one position's tokens; leaves hidden state and guided text logits in the state."""
        before_ns, began_ns = state.timing.temporal_ns, time.perf_counter_ns()
        shifted = state.make_room(quiet=quiet)
        x = self.embed(tokens) + state.condition
        state.hidden, logits = state.context.decode_rows(x, state.window.next_position)
        state.window.advance()
        state.logits = logits[0]
        if len(logits) == 2:
            guidance = np.float32(state.settings.guidance)
            state.logits = logits[1] + (logits[0] - logits[1]) * guidance
        took_ns = time.perf_counter_ns() - began_ns
        state.timing.temporal_ns = took_ns
        state.timing.shift_ns = max(1, took_ns - before_ns) if shifted else 0
        if shifted:
            cost_ms = state.timing.shift_ns / 1e6
            when = "silent" if quiet else "sounding"
            log.info("attention cache: moved in a %s frame, %.1f ms", when, cost_ms)

    def write(self, state: MoshiState, *, forced: Int64 | None = None) -> None:
        """Draw the text token and the codes from the last hidden state, onto the delay lines.

        forced: int64 (depth_steps,), codes that are given already, -1 for those to draw.
        """
        began_ns = time.perf_counter_ns()
        how = state.settings.text
        noise = gumbel(state.rng, (0 if how.greedy else how.top_k,))
        text = draw(state.logits, how, noise)
        drawn_ns = time.perf_counter_ns()
        codes = None
        if state.depth is not None:
            codes = state.depth.run(state.hidden, text, state.rng, forced=forced)
        state.line.write_generated(text, codes)
        state.timing.text_ns = drawn_ns - began_ns
        state.timing.depth_ns = time.perf_counter_ns() - drawn_ns

    @property
    def small_cache(self) -> bool:
        """Whether the attention cache can be in 8 bits."""
        return self._temporal.n_head_dim % _SMALL_CACHE_HEAD == 0

    def cache_bytes(self, n_positions: int) -> int:
        """What a step reads of a float16 attention cache that holds so many positions."""
        return 2 * 2 * self.spec.n_layers * self._temporal.n_kv * n_positions

    def bare_context(self, n_positions: int, kv: KvType) -> LlamaContext:
        """The main transformer alone, for benches: an empty cache of n_positions."""
        return self._temporal.context(
            ContextOptions(
                n_ctx=n_positions, n_batch=32, threads=self._threads, embeddings=True, kv=kv
            )
        )

    def close(self) -> None:
        """Free the weights; no conversation may go on after it."""
        self._temporal.close()

    def run_plan(self, state: MoshiState, plan: PromptPlan, *, batch: int = _PREFILL_BATCH) -> None:
        """Run a prompt's positions, `batch` at a time, into an empty conversation."""
        n = plan.n_positions
        tokens = plan.columns[: n - len(plan.embeddings)]
        rows = [self.embed(column) for column in tokens]
        x = np.concatenate([plan.embeddings, np.array(rows, np.float32)]) + state.condition
        for first in range(0, n, batch):
            part = x[first : first + batch]
            hidden, logits = state.context.decode_embeddings(part, first)
        state.hidden, state.logits = hidden[None], logits
        state.window = Window(state.settings.n_context, n_prefix=n)

    def _run_prompt(self, state: MoshiState, plan: PromptPlan, cache: Path | None) -> None:
        """Run a prompt or take its outcome from the cache, then draw the first tokens after it."""
        began_ns = time.perf_counter_ns()
        path = cache and cache / f"{plan.key(self.fingerprint, state.settings.kv)}.state"
        fresh = state.rng.bit_generator.state
        if path and (saved := _cached(path, self.fingerprint)):
            state.unpack(saved)
            state.window = Window(state.settings.n_context, n_prefix=plan.n_positions)
            state.rng.bit_generator.state = fresh
        else:
            self.run_plan(state, plan, batch=min(_PREFILL_BATCH, state.settings.n_context))
            if path:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_arrays(path, _KIND, self.fingerprint, state.pack())
                _keep_newest(path.parent)
        log.info(
            "prompt of %d frames: %.0f ms",
            plan.n_positions,
            (time.perf_counter_ns() - began_ns) / 1e6,
        )
        n, layout = plan.n_positions, self.spec.layout
        last = plan.columns[-1]
        state.line.position = n - 1
        forced = np.full(layout.n_written, -1, np.int64)
        forced[: layout.n_own] = np.maximum(last[1 : 1 + layout.n_own], -1)
        self.write(state, forced=forced)
        state.line.write_column(n, last)

    def _new_state(self, settings: Settings, condition: Float32, seed: int) -> MoshiState:
        rows, spec = len(condition), self.spec
        depth = None
        if self._depth is not None:
            depth = DepthStep(
                self._depth, rows=rows, sampling=settings.audio, guidance=settings.guidance
            )
        context = self._temporal.context(
            ContextOptions(
                n_ctx=settings.n_context,
                n_batch=min(_PREFILL_BATCH, settings.n_context),
                threads=self._threads,
                embeddings=True,
                kv=settings.kv,
                n_seq=rows,
            )
        )
        return MoshiState(
            settings=settings,
            context=context,
            window=Window(settings.n_context),
            line=DelayLine(spec.layout),
            rng=np.random.default_rng(seed),
            condition=condition,
            depth=depth,
            hidden=np.zeros((rows, spec.dim), np.float32),
            logits=np.zeros(spec.text_card_out, np.float32),
        )

    def _condition(self, value: str) -> dict[str, str]:
        """A value for every conditioner that knows it."""
        known = self.spec.conditions.items()
        return {name: value for name, values in known if value in values}

    def _kv_type(self, kv: Kv) -> KvType:
        if kv == "auto":
            return "f32" if self.spec.float_kv else "f16"
        if kv == "q8_0" and not self.small_cache:
            raise UsageError(
                f"an 8-bit cache needs heads of a multiple of {_SMALL_CACHE_HEAD} channels, this "
                f"model's have {self._temporal.n_head_dim}; use f16"
            )
        return kv

    def _extra_heads(self, hidden: Float32) -> tuple[Float32, ...]:
        if self._heads is None:
            return ()
        logits = self._heads @ hidden
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return tuple(raised / raised.sum(axis=1, keepdims=True))


def _keep_newest(folder: Path) -> None:
    """Remove all but the prompts used last: each may take a hundred megabytes."""
    found = [(path.stat().st_mtime_ns, path) for path in folder.glob("*.state")]
    for _, path in sorted(found, reverse=True)[_KEPT_PROMPTS:]:
        path.unlink(missing_ok=True)


def _cached(path: Path, fingerprint: str) -> dict[str, NDArray[Any]] | None:
    """A prompt's outcome from the cache; what is there but damaged is as good as not there."""
    if not path.is_file():
        return None
    try:
        saved = read_arrays(path, _KIND, fingerprint)
    except ArtifactError as error:
        log.warning("prompt cache: %s", error)
        return None
    path.touch()
    return saved
