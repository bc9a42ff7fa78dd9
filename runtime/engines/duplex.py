"""The duplex engine: one model that hears and speaks at once.

A frame's pathway: codec encodes the microphone -> the model takes the user's codes and gives its
own -> codec decodes them. The model's text is its captions. While its delays fill there is silence.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edge.errors import ArtifactError, UsageError
from edge.frame import Event, Frame, Pcm, Reply, silence
from runtime.engines.engine import Context
from runtime.models.mimi import MimiCodec
from runtime.models.moshi import MoshiModel
from runtime.models.multistream.delays import Int64
from runtime.models.multistream.prompting import Prompt, read_voice, system_text
from runtime.models.multistream.state import MoshiState, StepOut
from runtime.models.multistream.tokenizer import Captions, TextTokenizer

log = logging.getLogger(__name__)

# Below this level a frame of speech is room noise or less.
_QUIET_RMS = 10 ** (-50 / 20)
# So many quiet frames without a word, and the conversation rests: one second.
_IDLE_FRAMES = 13
_WARM_UP_FRAMES = 4


class Codec(Protocol):
    """What the engine asks of a codec; MimiCodec is the one there is."""

    n_codebooks: int
    bins: int

    def start(self) -> Any:
        """A new stream."""

    def encode(self, state: Any, pcm: Pcm) -> tuple[Any, Int64]:
        """80 ms of sound to codes int64 (n_codebooks,)."""

    def decode(self, state: Any, codes: Int64) -> tuple[Any, Pcm]:
        """Codes to 80 ms of sound."""


@dataclass(frozen=True, slots=True)
class DuplexOptions:
    """How conversations are sampled and what they keep; None is the model's own choice.

    prompt_cache: folder where prompts that were run are kept. prompted: whether the context's
    prompt and voice go to the model; only models trained with prompts understand them.
    """

    greedy: bool = False
    temperature: float | None = None
    top_k: int | None = None
    text_temperature: float | None = None
    text_top_k: int | None = None
    prompt_cache: Path | None = None
    prompted: bool = False


@dataclass(slots=True)
class DuplexState:
    """One conversation: the codec's stream, the model's, the captions, and how quiet it is."""

    codec: Any
    talk: MoshiState
    captions: Captions | None
    n_quiet: int = 0
    n_frames: int = 0
    spans: list[tuple[str, int, int]] = field(default_factory=list)


class DuplexEngine:
    """Weights of a codec and a multistream model; the Engine contract."""

    def __init__(
        self,
        codec: Codec,
        model: MoshiModel,
        tokenizer: TextTokenizer | None = None,
        options: DuplexOptions | None = None,
        *,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Refuse a codec whose codebooks are not the model's. Raises ArtifactError."""
        layout = model.spec.layout
        n_needed = max(layout.n_user, layout.n_own)
        exact = layout.n_own in (0, codec.n_codebooks)
        if codec.n_codebooks < n_needed or not exact or codec.bins != layout.card:
            raise ArtifactError(
                f"the codec has {codec.n_codebooks} codebooks of {codec.bins} codes, the model "
                f"wants {n_needed} of {layout.card}; export the codec with --codebooks {n_needed}"
            )
        self.codec, self.model, self.tokenizer = codec, model, tokenizer
        self.options = options or DuplexOptions()
        self._now_ns = now_ns

    def warm_up(self) -> None:
        """A few frames of silence in a conversation of its own."""
        state = self.start(seed=0, context=Context())
        for index in range(_WARM_UP_FRAMES):
            state, _ = self.step(state, Frame(index, 0, silence()))
        self.finish(state)

    def start(self, *, seed: int, context: Context) -> DuplexState:
        """A new conversation; a prompted one is begun with the context's prompt and voice.

        The model never sees the user's first frame, so without a prompt it takes its first step
        here: the reply is a frame earlier for it. Raises UsageError.
        """
        options = self.options
        talk = self.model.start(
            seed=seed,
            greedy=options.greedy,
            temperature=options.temperature,
            top_k=options.top_k,
            text_temperature=options.text_temperature,
            text_top_k=options.text_top_k,
            prompt=self._prompt(context) if options.prompted else None,
            prompt_cache=options.prompt_cache,
        )
        if not options.prompted:
            unseen = np.zeros(self.model.spec.layout.n_user, np.int64)
            talk, _ = self.model.step(talk, unseen)
        captions = Captions(self.tokenizer) if self.tokenizer else None
        return DuplexState(self.codec.start(), talk, captions)

    def step(self, state: DuplexState, frame: Frame) -> tuple[DuplexState, Reply]:
        """Encode, step, decode; all of it here and now."""
        state.spans.clear()
        user_quiet = _is_quiet(frame.pcm)
        began_ns = self._now_ns()
        state.codec, codes = self.codec.encode(state.codec, frame.pcm)
        encoded_ns = self._now_ns()
        state.talk, out = self.model.step(
            state.talk,
            codes[: self.model.spec.layout.n_user],
            quiet=user_quiet and state.n_quiet > 0,
        )
        stepped_ns = self._now_ns()
        pcm = silence()
        if out.codes is not None and out.text_token is not None:
            own = out.codes[: self.model.spec.layout.n_own]
            state.codec, pcm = self.codec.decode(state.codec, own)
        decoded_ns = self._now_ns()
        depth_ns = stepped_ns - state.talk.timing.depth_ns
        state.spans += [
            ("encode", began_ns, encoded_ns),
            ("temporal", encoded_ns, depth_ns),
            ("depth", depth_ns, stepped_ns),
            ("decode", stepped_ns, decoded_ns),
        ]
        text = state.captions.add(out.text_token) if state.captions else ""
        rests = user_quiet and _is_quiet(pcm) and not text
        state.n_quiet = state.n_quiet + 1 if rests else 0
        state.n_frames += 1
        return state, Reply(frame.index, pcm, text, self._events(state, out))

    def idle(self, state: DuplexState) -> bool:
        """Neither side has made a sound for a second."""
        return state.n_quiet >= _IDLE_FRAMES

    def finish(self, state: DuplexState) -> None:
        """Free the conversation's cache."""
        state.talk.close()

    def _events(self, state: DuplexState, out: StepOut) -> tuple[Event, ...]:
        """What each stage took, and what the extra heads say: the first class of each."""
        events = [
            Event("stage", {"name": name, "began_ns": began, "ended_ns": ended})
            for name, began, ended in state.spans
        ]
        if out.heads:
            facts = {f"head_{i}": float(head[0]) for i, head in enumerate(out.heads)}
            events.append(Event("heads", facts))
        return tuple(events)

    def _prompt(self, context: Context) -> Prompt:
        """The context as the model reads it. Raises UsageError."""
        text: tuple[int, ...] = ()
        if context.prompt:
            if self.tokenizer is None:
                raise UsageError(
                    "a prompt needs the model's tokenizer; export it again with --tokenizer"
                )
            text = self.tokenizer.encode(system_text(context.prompt))
        voice = None
        if context.voice:
            voice = read_voice(self._voice_file(context.voice), self.model.spec.layout)
        return Prompt(text, voice)

    def _voice_file(self, voice: str) -> Path:
        """A voice by file, or by name in the model's folder. Raises UsageError."""
        for path in (Path(voice), self.model.folder / "voices" / f"{voice}.safetensors"):
            if path.is_file():
                return path
        raise UsageError(
            f"there is no voice {voice!r}: want a .safetensors file made by `edge export voice`, "
            "or the name of one in the model's voices folder"
        )


def _is_quiet(pcm: Pcm) -> bool:
    return float(np.sqrt(np.mean(np.square(pcm)))) < _QUIET_RMS


def open_duplex(
    model_dir: Path,
    *,
    codec_dir: Path | None = None,
    threads: int = 1,
    device: str = "cpu",
    options: DuplexOptions | None = None,
    now_ns: Callable[[], int] = time.monotonic_ns,
) -> DuplexEngine:
    """Load a model and its codec.

    codec_dir: by default the folder `mimi` in the model's folder, else the one beside it.
    Raises UsageError where there is no codec, ArtifactError, DeviceError, MissingPackageError.
    """
    places = [codec_dir] if codec_dir else [model_dir / "mimi", model_dir.parent / "mimi"]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise UsageError(
            f"{model_dir}: no codec at {places[0]}; make one with `edge export mimi --out "
            f"{places[0]}`"
        )
    model = MoshiModel(model_dir, threads=threads, device=device)
    codec = MimiCodec(found, threads=threads, device=device)
    return DuplexEngine(codec, model, open_tokenizer(model), options, now_ns=now_ns)


def open_tokenizer(model: MoshiModel) -> TextTokenizer | None:
    """The artifact's tokenizer, None where it has none. Raises ArtifactError for a wrong one."""
    spec = model.spec
    if not spec.tokenizer_sha256:
        return None
    silent = (spec.text_padding_id, spec.text_end_padding_id)
    tokenizer = TextTokenizer(model.folder / "tokenizer.model", silent_ids=silent)
    if tokenizer.n_tokens != spec.text_card:
        raise ArtifactError(
            f"tokenizer.model has {tokenizer.n_tokens} pieces, the model {spec.text_card}"
        )
    return tokenizer
