"""The settings, their defaults and limits: a frozen dataclass a TOML table, a field a key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# What every library with random numbers takes.
_MAX_SEED = 2**32 - 1


def _one_of(default: str, *choices: str) -> Any:
    return field(default=default, metadata={"choices": choices})


def _within(default: float, low: float, high: float) -> Any:
    return field(default=default, metadata={"low": low, "high": high})


def _named(default: str) -> Any:
    return field(default=default, metadata={"filled": True})


@dataclass(frozen=True, slots=True)
class TalkConfig:
    """[talk]: who answers, and how."""

    engine: str = _one_of("cascade", "cascade", "duplex", "auto")
    """"cascade": models that listen, think and speak in turn; "duplex": one model that does all;
    "auto": the duplex model if there is one and it was found to fit 80 ms here."""
    model: str = ""
    """Artifact folder or models.lock name of the duplex model; not used by the cascade."""
    voice: str = ""
    """Name of the voice, of those the model offers; "" is the model's own."""
    prompt: str = "You are a helpful voice assistant. Answer in one or two short sentences."
    """What the assistant is told about itself before the conversation."""
    language: str = _named("en")
    """Language of the conversation, ISO 639-1."""
    seed: int = _within(0, 0, _MAX_SEED)
    """Start of the random numbers: the same seed, models and input give the same reply."""


@dataclass(frozen=True, slots=True)
class AudioConfig:
    """[audio]: sound devices and what is done to the microphone's sound."""

    input: str = ""
    """Microphone, by name or a part of it; "" is the system's default."""
    output: str = ""
    """Loudspeaker, by name or a part of it; "" is the system's default."""
    echo_cancel: bool = True
    """Take the assistant's own voice out of the microphone; not needed with headphones."""
    warm_up_ms: int = _within(1_500, 0, 10_000)
    """How much of its own first speech the canceller may learn from while nothing is listened to;
    mostly it needs 400 ms."""
    noise_suppress: bool = True
    """Lower steady noise in the microphone."""
    mend: bool = True
    """Fill gaps of up to 60 ms where a line loses sound, and take out a constant part."""
    auto_gain: bool = True
    """Bring the speaker's voice to an even level."""
    duck_db: float = _within(-12.0, -60.0, 0.0)
    """Level of the assistant's voice, in dB, from the first sound of somebody who may be about to
    interrupt it until that proves to be nothing or it falls silent; 0 never lowers it."""


@dataclass(frozen=True, slots=True)
class ModelsConfig:
    """[models]: the cascade's models, by their names in models.lock."""

    vad: str = _named("silero-vad-6.2")
    """Tells speech from other sound."""
    turn: str = _named("smart-turn-3.2")
    """Tells a finished utterance from a pause in one."""
    asr: str = _named("whisper-tiny.en")
    """Writes down what was said."""
    llm: str = _named("smollm2-135m-instruct")
    """Finds the answer."""
    tts: str = _named("hibari-heart")
    """Speaks it."""
    prepared: bool = True
    """Use the copy of the language model that `edge models fetch` has made for this processor:
    quicker, but with more memory."""


@dataclass(frozen=True, slots=True)
class TurnsConfig:
    """[turns]: when the user has finished, and when the assistant falls silent."""

    policy: str = _one_of("adaptive", "adaptive", "fixed", "push-to-talk")
    """"adaptive": silence, words and the end-of-turn model decide; "fixed": silence alone does;
    "push-to-talk": a key does."""
    end_silence_ms: int = _within(832, 96, 10_000)
    """Silence that ends a turn under "fixed", and under "adaptive" where the signs say nothing."""
    max_pause_ms: int = _within(1_312, 96, 10_000)
    """Silence that ends a turn under "adaptive" even if it seems unfinished; never the shorter."""
    ahead: bool = True
    """Prepare the reply in every pause, and listen ahead: quicker, for work that is thrown away
    where the user goes on."""
    barge_in: bool = True
    """Whether speaking over the assistant makes it stop and listen."""
    stop_words: tuple[str, ...] = ("stop",)
    """Words that silence the assistant and call for no answer."""
    backchannel_ms: int = _within(400, 0, 5_000)
    """Speech over the assistant that is no longer than this ("mhm") does not interrupt it."""
    faint_db: int = _within(14, 0, 60)
    """A voice so many dB below the user's own is somebody else's: it opens no turn, holds none open
    and interrupts nothing; 0 listens to any."""
    own_words: bool = True
    """Whether a turn that only repeats what the assistant has just said is taken for its echo; a
    duplex engine, which has no turns, knows its voice by its course and keeps it out of its ear."""


@dataclass(frozen=True, slots=True)
class WakeConfig:
    """[wake]: a phrase that must be said before the assistant listens."""

    enabled: bool = False
    """Whether it sleeps until the phrase is said; without it, it always listens."""
    model: str = _named("hey-assistant")
    """Model of the phrase, by its name in models.lock."""
    file: str = ""
    """Your own openWakeWord classifier (ONNX) in place of the model's; needs sha256."""
    sha256: str = ""
    """Of that file, 64 hexadecimal digits: nothing is loaded whose hash is not known."""
    threshold: float = _within(0.5, 0.01, 1.0)
    """From which score on, 0 to 1, the phrase counts as said; higher is deafer."""
    listen_s: float = _within(8.0, 1.0, 3_600.0)
    """How long it listens for a question, and after each answer for the next one."""


@dataclass(frozen=True, slots=True)
class ContextConfig:
    """[context]: what the language model remembers."""

    budget_tokens: int = _within(512, 128, 1_000_000)
    """Prompt and conversation together at most; the oldest turns are forgotten first."""


@dataclass(frozen=True, slots=True)
class DuplexConfig:
    """[duplex]: where a duplex model computes, and what it does when it is late."""

    device: str = _one_of("auto", "auto", "cpu", "cuda", "metal")
    """Where its main transformer computes; "auto" is a GPU that llama.cpp was built for."""
    depth_device: str = _one_of("cpu", "auto", "cpu", "cuda", "metal")
    """Where its depth transformer computes."""
    codec_device: str = _one_of("cpu", "auto", "cpu", "cuda", "metal")
    """Where its codec computes."""
    kv: str = _one_of("auto", "auto", "f16", "q8_0")
    """Type of the attention cache; "q8_0" halves what a long conversation reads in each frame."""
    overlap: str = _one_of("auto", "auto", "on", "off")
    """Whether decoding goes on beside the next frame: replies come 80 ms later, frames take less;
    "auto" does so where a frame would not fit otherwise."""
    step_down: bool = True
    """Whether it is made cheaper, and at last the cascade takes over, when frames come late."""
    late_frames: int = _within(10, 1, 50)
    """How many of the last 50 frames may be late before that happens."""


@dataclass(frozen=True, slots=True)
class CpuConfig:
    """[cpu]: how much of the processor may be used."""

    cores: int = _within(0, 0, 1_024)
    """Cores for all models together; 0 is all that this process may use."""


@dataclass(frozen=True, slots=True)
class HistoryConfig:
    """[history]: whether conversations are kept."""

    enabled: bool = False
    """Keep what was said, as text, on this machine; without it nothing is written down."""


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """[loop]: the 80 ms loop."""

    max_behind_frames: int = _within(2, 1, 125)
    """Frames of 80 ms that the loop may be late before it drops microphone input to catch up."""


@dataclass(frozen=True, slots=True)
class PrivacyConfig:
    """[privacy]: what may leave this machine."""

    level: str = _one_of("sealed", "sealed", "loopback", "off")
    """"sealed": no network at all, enforced by the kernel; "loopback": this machine only; "off"."""
    allow: tuple[str, ...] = ()
    """What a separate process beside the sealed daemon may do: "fetch-models"."""


@dataclass(frozen=True, slots=True)
class Config:
    """All settings, checked; edge.config.load_config makes one."""

    talk: TalkConfig = field(default_factory=TalkConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    models: ModelsConfig = field(default_factory=ModelsConfig)
    turns: TurnsConfig = field(default_factory=TurnsConfig)
    wake: WakeConfig = field(default_factory=WakeConfig)
    context: ContextConfig = field(default_factory=ContextConfig)
    duplex: DuplexConfig = field(default_factory=DuplexConfig)
    cpu: CpuConfig = field(default_factory=CpuConfig)
    history: HistoryConfig = field(default_factory=HistoryConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
