"""One conversation as an application runs it: engine, port, clock and the record of its turns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from apps.wake import open_wake_word, waking
from edge.config import AudioConfig, Config
from edge.frame import FRAME_MS, Event, Frame, Reply
from edge.history import History
from edge.lock import read_lock
from edge.store import ModelStore
from edge.wav import open_audio
from edge.wav_writer import WavWriter
from runtime.clock import Clock, FastClock, SystemClock
from runtime.engines.assemble import open_cascade
from runtime.engines.cascade import CascadeEngine
from runtime.engines.engine import Context, Engine
from runtime.engines.persona import default_context
from runtime.heap import give_back, share_heaps
from runtime.loop import LoopReport, Observer, run
from runtime.sound.card.connect import Wish
from runtime.sound.clear import Clarity, ClearPort
from runtime.sound.device import DevicePort, DeviceSettings
from runtime.sound.device_info import Direction, default_device, match
from runtime.sound.devices import list_devices
from runtime.sound.echo import EchoCanceller
from runtime.sound.files import FilePort
from runtime.sound.port import AudioPort
from runtime.sound.recording import RecordingPort
from runtime.trace import Trace

ClockName = Literal["real", "fast"]


@dataclass(slots=True)
class TurnLog:
    """Collects an engine's events into turns.

    told: sees each event as it happens. keep: gets each turn once it is over; an interrupted one
    only when the next begins, because it may yet go on.
    """

    told: Callable[[Event], None] = lambda _event: None
    keep: Callable[[dict[str, Any]], object] = lambda _turn: None
    turns: list[dict[str, Any]] = field(default_factory=list)
    explained: list[str] = field(default_factory=list)
    _kept: int = 0

    def observe(self, frame: Frame, reply: Reply) -> None:
        """Take one frame's events; an Observer for the loop."""
        for event in reply.events:
            if event.kind == "reply_started":
                self.finish()
                self.turns.append({**event.facts, "reply": "", "interrupted": False})
            elif event.kind == "reply_ended" and self.turns:
                self.turns[-1].update(event.facts)
                if not event.facts["interrupted"]:
                    self.finish()
            if "why" in event.facts:
                at_s = event.facts.get("at_s", round(frame.index * FRAME_MS / 1000, 3))
                why = event.facts["why"]
                self.explained.append(f"{at_s:>9} s  {event.kind:<18} {why}")
            self.told(event)

    def forget(self, n_kept: int) -> None:
        """Hold on to the last turns only; what was to be kept of the others has been."""
        n_over = min(len(self.turns) - n_kept, self._kept)
        if n_over > 0:
            del self.turns[:n_over]
            self._kept -= n_over
        del self.explained[:-n_kept]

    def finish(self) -> None:
        """Keep the turn that may have waited to go on."""
        for turn in self.turns[self._kept :]:
            if turn["reply"]:
                self.keep(turn)
        self._kept = len(self.turns)


@dataclass(slots=True)
class Session:
    """A loaded engine on its clock; several conversations may be run on it, one after the other.

    failures: what workers met. close: ends them. notes: what a person should know beforehand.
    captioned: replies carry their words as they come.
    """

    config: Config
    engine: Engine[Any]
    clock: Clock
    failures: list[Exception]
    close: Callable[[], None]
    notes: list[str] = field(default_factory=list)
    captioned: bool = False

    def talk(
        self,
        port: AudioPort,
        *,
        trace: Trace,
        log: TurnLog,
        stop: Callable[[], bool] = lambda: False,
        also: Observer | None = None,
    ) -> LoopReport:
        """Hold one conversation, until its port ends it or stop(); also sees every frame.

        Raises the first error a worker met, once the conversation is closed.
        """
        talk = self.config.talk
        history = History.open(self.config)
        log.keep = lambda turn: history.append(
            user=turn["user"], reply=turn["reply"], engine=talk.engine
        )
        try:
            report = run(
                self.engine,
                port,
                self.clock,
                seed=talk.seed,
                context=opening_context(self.config),
                trace=trace,
                observe=_both(log.observe, also),
                stop=lambda: stop() or bool(self.failures),
            )
        finally:
            log.finish()
        if self.failures:
            raise self.failures[0]
        return report


def open_session(
    config: Config,
    clock: ClockName = "real",
    talk_key: Callable[[], bool] = lambda: False,
    hush: Callable[[], bool] = lambda: False,
) -> Session:
    """Load what the configuration asks for and warm it up.

    talk_key: held down now? hush: was the assistant told to be silent since the last question?
    """
    share_heaps()
    word = open_wake_word(config.wake) if config.wake.enabled else None
    if config.talk.engine == "duplex" or (config.talk.engine == "auto" and config.talk.model):
        session = _open_duplex(config, clock, talk_key, hush)
    else:
        session = _open_cascade(config, clock, talk_key, hush)
    if word is not None:
        session.engine = waking(session.engine, word, config.wake, talk_key)
        session.notes.append(f"asleep until its wake word is said ({config.wake.model})")
    # A conversation that is never held: its opening is evaluated now, not when somebody speaks.
    engine = session.engine
    try:
        engine.finish(engine.start(seed=0, context=opening_context(config)))
    except BaseException:
        session.close()
        raise
    give_back()
    return session


def _open_cascade(
    config: Config, clock: ClockName, talk_key: Callable[[], bool], hush: Callable[[], bool]
) -> Session:
    failures: list[Exception] = []
    engines: list[CascadeEngine] = []
    timer: Clock = (
        SystemClock() if clock == "real" else FastClock(lambda: not engines[0].crew_idle())
    )
    store = ModelStore(read_lock())
    engine = open_cascade(
        config, store, now_ns=timer.now_ns, on_error=failures.append, talk_key=talk_key, hush=hush
    )
    engines.append(engine)
    engine.warm_up()
    return Session(config, engine, timer, failures, engine.close)


def _open_duplex(
    config: Config, clock: ClockName, talk_key: Callable[[], bool], hush: Callable[[], bool]
) -> Session:
    """A multistream model computes in its step, so a fast clock never has to wait for it.

    Under "auto" the cascade is taken where the model was found not to fit a frame. In real time it
    is what the ladder ends at; it is loaded only then.
    """
    from apps.duplex_session import open_planned, with_ladder

    timer: Clock = SystemClock() if clock == "real" else FastClock(lambda: False)
    opened = open_planned(config, timer.now_ns)
    engine, notes = opened.engine, [f"duplex: {opened.plan.reason}"]
    if config.talk.engine == "auto" and not opened.plan.fits:
        engine.close()
        session = _open_cascade(config, clock, talk_key, hush)
        session.notes.extend([*notes, "taking the cascade instead"])
        return session
    if clock == "fast" or not config.duplex.step_down:
        return Session(config, engine, timer, [], engine.close, notes, captioned=True)
    failures: list[Exception] = []
    below: list[CascadeEngine] = []

    def open_below() -> CascadeEngine:
        store = ModelStore(read_lock())
        cascade = open_cascade(
            config,
            store,
            now_ns=timer.now_ns,
            on_error=failures.append,
            talk_key=talk_key,
            hush=hush,
        )
        below.append(cascade)
        cascade.warm_up()
        return cascade

    ladder = with_ladder(config, engine, open_below)

    def close() -> None:
        ladder.close()
        for cascade in below:
            cascade.close()
        engine.close()

    return Session(config, ladder, timer, failures, close, notes, captioned=True)


def _both(first: Observer, second: Observer | None) -> Observer:
    if second is None:
        return first

    def observe(frame: Frame, reply: Reply) -> None:
        first(frame, reply)
        second(frame, reply)

    return observe


def opening_context(config: Config) -> Context:
    """What every conversation under this configuration starts from."""
    return default_context(config.talk.prompt, config.talk.voice)


def check_files(inputs: Sequence[Path], output: Path | None) -> None:
    """Refuse what cannot be played or written before any model is loaded. Raises AudioFileError."""
    for path in inputs:
        with open_audio(path):
            pass
    if output is not None:
        WavWriter(output).abort()


def check_devices(config: Config) -> None:
    """Refuse a microphone or speaker that is not there before any model is loaded.

    Raises DeviceError, MissingPackageError.
    """
    found = list_devices()
    wanted: tuple[tuple[str, Direction], ...] = (
        (config.audio.input, "input"),
        (config.audio.output, "output"),
    )
    for name, direction in wanted:
        if name:
            match(found, name, direction)
        else:
            default_device(found, direction)


@dataclass(frozen=True, slots=True)
class Opened:
    """A port for the loop, and the part of it that makes the microphone fit to be heard."""

    port: AudioPort
    clear: ClearPort

    def clarity(self) -> Clarity:
        """What is known now of echo and microphone."""
        return self.clear.clarity


def open_port(
    session: Session, inputs: Sequence[Path], output: Path | None, *, stereo: bool
) -> Opened:
    """Files if there are any, else the sound card; recorded if an output is named.

    A recording's left side is the file as it is, or what was heard of the user over the card.
    """
    audio, loop = session.config.audio, session.config.loop
    if inputs:
        played: AudioPort = FilePort(inputs, session.clock)
        if output is not None:
            played = RecordingPort(played, output, stereo=stereo)
        clear = cleared(audio, played, echo=False)
        return Opened(clear, clear)
    wish = Wish(audio.input or None, audio.output or None)
    settings = DeviceSettings(wish, max_behind_frames=loop.max_behind_frames)
    clear = cleared(audio, DevicePort(settings, session.clock), echo=True)
    if output is None:
        return Opened(clear, clear)
    return Opened(RecordingPort(clear, output, stereo=stereo), clear)


def cleared(audio: AudioConfig, port: AudioPort, *, echo: bool) -> ClearPort:
    """A port whose sound is made fit to be heard, as configured. echo: it can hear the assistant.

    Raises MissingPackageError.
    """
    canceller = None
    if echo and audio.echo_cancel:
        canceller = EchoCanceller(noise_suppress=audio.noise_suppress, warm_up_ms=audio.warm_up_ms)
    return ClearPort(port, canceller, mend=audio.mend, auto_gain=audio.auto_gain)


def summary(report: LoopReport, log: TurnLog, ready_s: float, clarity: Clarity) -> dict[str, Any]:
    """The JSON object of `edge talk --json`."""
    return {
        "turns": log.turns,
        **report.timings,
        "port": dataclasses.asdict(report.counters),
        **dataclasses.asdict(clarity),
        "rss_mb": round(report.peak_rss_mb, 1),
        "ready_s": round(ready_s, 2),
    }
