"""The duplex engine: one model that hears and speaks at once.

A frame's pathway: codec encodes the microphone -> the model takes the user's codes and gives its
own -> codec decodes them. The model's text is its captions. While its delays fill there is silence.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np

from edge.errors import ArtifactError, UsageError
from edge.frame import Event, Frame, Pcm, Reply, silence
from runtime.engines import manners, own_voice
from runtime.engines.engine import Context
from runtime.engines.exchanges import Exchanges, is_quiet
from runtime.models.mimi_probe import open_codec
from runtime.models.moshi import Kv, MoshiModel
from runtime.models.multistream.delays import Int64
from runtime.models.multistream.prompting import Prompt, VoicePrompt, system_text
from runtime.models.multistream.state import MoshiState, StepOut
from runtime.models.multistream.tokenizer import Captions, TextTokenizer
from runtime.models.multistream.voices import open_voice, quiet_codes

log = logging.getLogger(__name__)

# So many quiet frames without a word, and the conversation rests: one second.
_IDLE_FRAMES = 13
_WARM_UP_FRAMES = 6
# A conversation that is short of time is not narrowed below this: 30 s.
_LEAST_CONTEXT = 375
_FRAME_S = 0.08


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
    kv: type of the attention cache. overlap: decode a frame on a thread of its own beside the next
    frame's encoding; each reply then comes a frame later. duck_db: level while the user speaks over
    it, 0 as ever. own_voice: keep its own voice out of its ear where it comes back.
    """

    greedy: bool = False
    temperature: float | None = None
    top_k: int | None = None
    text_temperature: float | None = None
    text_top_k: int | None = None
    prompt_cache: Path | None = None
    prompted: bool = False
    kv: Kv = "auto"
    overlap: bool = False
    duck_db: float = 0.0
    own_voice: bool = False


Span = tuple[str, int, int]  # a stage's name, when it began and ended
Spoken = tuple[Pcm, Span | None]


@dataclass(slots=True)
class DuplexState:
    """One conversation: a codec stream each way, the model's, the captions, how quiet it is.

    behind: where decoding overlaps, the frame that is being decoded and the text that goes with it.
    own: what is known of its own voice in its ear, None where nobody minds it.
    """

    ear: Any
    mouth: Any
    talk: MoshiState
    captions: Captions | None
    overlap: bool = False
    behind: tuple[Future[Spoken], str] | None = None
    exchanges: Exchanges = field(default_factory=Exchanges)
    manners: manners.Manners = field(default_factory=manners.Manners)
    own: own_voice.OwnVoice | None = None
    n_quiet: int = 0
    spans: list[Span] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a step took while warming up, the median: all of it, and its decoding."""

    step_ms: float
    decode_ms: float


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
        self.measured: Measured | None = None
        self._now_ns = now_ns
        self._decoder = ThreadPoolExecutor(1, thread_name_prefix="decode")
        self._quiet: tuple[tuple[int, ...], tuple[int, ...]] | None = None
        self._voices: dict[tuple[str, int], VoicePrompt] = {}

    def warm_up(self) -> None:
        """A few frames of silence in a conversation of its own; measures what they take."""
        usual, self.options = self.options, replace(self.options, overlap=False, prompted=False)
        state = self.start(seed=0, context=Context())
        steps, decodes = [], []
        for index in range(_WARM_UP_FRAMES):
            began_ns = time.perf_counter_ns()
            state, _ = self.step(state, Frame(index, 0, silence()))
            steps.append(time.perf_counter_ns() - began_ns)
            decodes += [end - begin for name, begin, end in state.spans if name == "decode"]
        self.finish(state)
        self.options = usual
        late = _WARM_UP_FRAMES // 2  # the first ones also load what is mapped
        decode_ms = median(decodes[late:]) / 1e6 if decodes[late:] else 0.0
        self.measured = Measured(median(steps[late:]) / 1e6, decode_ms)

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
            kv=options.kv,
        )
        if not options.prompted:
            unseen = np.zeros(self.model.spec.layout.n_user, np.int64)
            talk, _ = self.model.step(talk, unseen)
        captions = Captions(self.tokenizer) if self.tokenizer else None
        overlap = options.overlap and bool(self.model.spec.depth_steps)
        own = own_voice.OwnVoice() if options.own_voice else None
        ear, mouth = self.codec.start(), self.codec.start()
        return DuplexState(ear, mouth, talk, captions, overlap, own=own)

    def step(self, state: DuplexState, frame: Frame) -> tuple[DuplexState, Reply]:
        """Encode, step, decode; all of it here and now unless decoding overlaps."""
        state.spans.clear()
        began_ns = self._now_ns()
        heard, told = _listen(state, frame.pcm)
        user_quiet = is_quiet(heard)
        voice = manners.listen(state.manners, heard)
        state.ear, codes = self.codec.encode(state.ear, heard)
        encoded_ns = self._now_ns()
        state.talk, out = self.model.step(
            state.talk,
            codes[: self.model.spec.layout.n_user],
            quiet=user_quiet and state.n_quiet > 0,
        )
        stepped_ns = self._now_ns()
        depth_ns = stepped_ns - state.talk.timing.depth_ns
        state.spans += [
            ("encode", began_ns, encoded_ns),
            ("temporal", encoded_ns, depth_ns),
            ("depth", depth_ns, stepped_ns),
        ]
        pcm, text = self._speak(state, out)
        reply_quiet = is_quiet(pcm)
        duck_db = self.options.duck_db
        pcm, lower = manners.speak(state.manners, pcm, audible=not reply_quiet, duck_db=duck_db)
        if state.own is not None:
            own_voice.say(state.own, pcm)
        rests = user_quiet and reply_quiet and not text
        state.n_quiet = state.n_quiet + 1 if rests else 0
        turns = state.exchanges.frame(
            frame.index,
            user_quiet=user_quiet,
            reply_quiet=reply_quiet,
            text=text,
            talked_over=voice,
            step_ms=(self._now_ns() - began_ns) / 1e6,
        )
        facts = self._facts(state, out, user_quiet)
        events = (*self._stages(state), *facts, *told, *lower, *turns)
        return state, Reply(frame.index, pcm, text, events)

    def relieve(self, state: DuplexState) -> str | None:
        """Make a conversation that is short of time cheaper; says how, None where nothing helps.

        First decoding moves beside the next frame; then less and less of the past is attended to.
        """
        if self.model.spec.depth_steps and not state.overlap:
            state.overlap = True
            return "decoding beside the next frame, which delays replies by 80 ms"
        window = state.talk.window
        context = max(_LEAST_CONTEXT, window.n_prefix + _LEAST_CONTEXT, window.next_position // 2)
        if context < min(window.context, window.next_position):
            window.narrow(context)
            return f"attending to the last {context * _FRAME_S:.0f} s only"
        return None

    def idle(self, state: DuplexState) -> bool:
        """Neither side has made a sound for a second."""
        return state.n_quiet >= _IDLE_FRAMES

    def finish(self, state: DuplexState) -> None:
        """Free the conversation's cache."""
        if state.behind is not None:
            state.behind[0].result()
        state.talk.close()

    def close(self) -> None:
        """Free the weights; no conversation may go on after it."""
        self._decoder.shutdown()
        self.model.close()

    def _speak(self, state: DuplexState, out: StepOut) -> tuple[Pcm, str]:
        """The sound and text of this frame, or of the one before where decoding overlaps."""
        text = state.captions.add(out.text_token) if state.captions else ""
        if not state.overlap:
            pcm, span = self._decode(state, out)
        else:
            ready = state.behind
            state.behind = (self._decoder.submit(self._decode, state, out), text)
            if ready is None:
                return silence(), ""
            (pcm, span), text = ready[0].result(), ready[1]
        if span is not None:
            state.spans.append(span)
        return pcm, text

    def _decode(self, state: DuplexState, out: StepOut) -> Spoken:
        """Silence for a frame without codes: the delays fill, or the model only listens."""
        if out.codes is None or out.text_token is None:
            return silence(), None
        began_ns = self._now_ns()
        own = out.codes[: self.model.spec.layout.n_own]
        state.mouth, pcm = self.codec.decode(state.mouth, own)
        return pcm, ("decode", began_ns, self._now_ns())

    def _stages(self, state: DuplexState) -> list[Event]:
        return [
            Event("stage", {"name": name, "began_ns": began, "ended_ns": ended})
            for name, began, ended in state.spans
        ]

    def _facts(self, state: DuplexState, out: StepOut, user_quiet: bool) -> list[Event]:
        """What extra heads say, the first class of each; what moving the cache has cost."""
        events = []
        if out.heads:
            facts = {f"head_{i}": float(head[0]) for i, head in enumerate(out.heads)}
            events.append(Event("heads", facts))
        if state.talk.timing.shift_ns:
            cost_ms = round(state.talk.timing.shift_ns / 1e6, 1)
            events.append(Event("cache_moved", {"cost_ms": cost_ms, "silent": user_quiet}))
        return events

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
            voice = self._voice(self._voice_file(context.voice))
        if self._quiet is None:
            self._quiet = quiet_codes(self.codec, self.model.spec.layout)
        return Prompt(text, voice, *self._quiet)

    def _voice(self, path: Path) -> VoicePrompt:
        """A voice, encoded once however many conversations begin with it."""
        key = (str(path), path.stat().st_mtime_ns)
        if key not in self._voices:
            self._voices[key] = open_voice(path, self.model.spec.layout, self.codec)
        return self._voices[key]

    def _voice_file(self, voice: str) -> Path:
        """A voice by file, or by name in the model's folder. Raises UsageError."""
        folder = self.model.folder / "voices"
        for path in (Path(voice), folder / f"{voice}.safetensors", folder / f"{voice}.wav"):
            if path.is_file():
                return path
        raise UsageError(
            f"there is no voice {voice!r}: want a sound file, a .safetensors file made by "
            "`edge export voice`, or the name of one in the model's voices folder"
        )


def _listen(state: DuplexState, pcm: Pcm) -> tuple[Pcm, list[Event]]:
    """What the model is to hear of a frame; says when its own voice is first kept out."""
    if state.own is None:
        return pcm, []
    knew = state.own.way is not None
    heard = own_voice.hear(state.own, pcm)
    if knew or state.own.way is None:
        return heard, []
    why = f"its own voice comes back after {state.own.way * 10} ms: kept out from now on"
    return heard, [Event("own_voice", {"why": why})]


def open_duplex(
    model_dir: Path,
    *,
    codec_dir: Path | None = None,
    threads: int = 1,
    device: str = "cpu",
    depth_device: str | None = None,
    codec_device: str | None = None,
    options: DuplexOptions | None = None,
    now_ns: Callable[[], int] = time.monotonic_ns,
) -> DuplexEngine:
    """Load a model and its codec.

    codec_dir: by default the folder `mimi` in the model's folder, else the one beside it. Where it
    holds several presets, each is timed here and the most precise that leaves half a frame is used.
    device: of the main transformer; depth_device, codec_device: of the others, by default the same.
    Raises UsageError where there is no codec, ArtifactError, DeviceError, MissingPackageError.
    """
    if not model_dir.is_dir():
        raise UsageError(f"{model_dir}: no artifact's folder; make one with `edge export moshi`")
    places = [codec_dir] if codec_dir else [model_dir / "mimi", model_dir.parent / "mimi"]
    found = next((folder for folder in places if folder.is_dir()), None)
    if found is None:
        raise UsageError(
            f"{model_dir}: no codec at {places[0]}; make one with `edge export mimi --out "
            f"{places[0]}`"
        )
    model = MoshiModel(model_dir, threads=threads, device=device, depth_device=depth_device)
    codec = open_codec(found, preset="auto", threads=threads, device=codec_device or device).codec
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
