"""Pipecat as a peer of `edge bench talk`: its own pipeline around the very same models.

Run by a Python that has pipecat-ai, in a process of its own (apps/bench/peer.py starts it); nothing
here is ever imported by edge. One JSON object comes in on standard input, a line a question goes
out. Pipecat's are the loop, voice activity and turn strategies at their defaults (Silero's network
and smart-turn v3.2 from its package), interruptions, aggregation and playing; ours are the language
model, the voice and the recogniser, with our short windows or with Whisper's of 30 s, as Pipecat's
own service has them; one thread each.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import (
    CancelFrame,
    InputAudioRawFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import LLMSettings, STTSettings, TTSSettings
from pipecat.services.stt_service import SegmentedSTTService
from pipecat.services.tts_service import TTSService
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.workers.runner import WorkerRunner

from edge.wav import read_mono
from runtime.models.asr import Recogniser, Window
from runtime.models.llm import ChatModel, Sampling
from runtime.models.tts import Voice

_EAR_RATE_HZ, _MOUTH_RATE_HZ = 16_000, 24_000
_TICK_S = 0.02
_AUDIBLE = 10 ** (-45 / 20)
_LISTEN_S = 12.0  # after the question; what has not answered by then does not


class Ears(BaseInputTransport):
    """Plays a question to the pipeline in real time, then silence."""

    def __init__(self, params: TransportParams, pcm: Any) -> None:
        super().__init__(params)
        self._sound = np.concatenate([pcm, np.zeros(int(_LISTEN_S * _EAR_RATE_HZ), np.float32)])
        self.began = 0.0

    async def start(self, frame: Any) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)
        self._feeder = self.create_task(self._feed())

    async def cancel(self, frame: CancelFrame) -> None:
        await super().cancel(frame)
        await self.cancel_task(self._feeder)

    async def _feed(self) -> None:
        """A tick's sound is there when the tick is over, as from a sound card."""
        tick = int(_TICK_S * _EAR_RATE_HZ)
        self.began = time.monotonic()
        for i, at in enumerate(range(0, len(self._sound) - tick, tick)):
            await asyncio.sleep(max(0.0, self.began + (i + 1) * _TICK_S - time.monotonic()))
            part = (np.clip(self._sound[at : at + tick], -1, 1) * 32767).astype(np.int16)
            await self.push_audio_frame(
                InputAudioRawFrame(audio=part.tobytes(), sample_rate=_EAR_RATE_HZ, num_channels=1)
            )


class Mouth(BaseOutputTransport):
    """Takes sound at the pace of a sound card and notes when the first of it is audible."""

    def __init__(self, params: TransportParams) -> None:
        super().__init__(params)
        self.first_at: float | None = None
        self.audible_s = 0.0
        self.last_at = 0.0

    async def start(self, frame: Any) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: Any) -> bool:
        pcm = np.frombuffer(frame.audio, np.int16) / 32768.0
        loud = np.flatnonzero(np.abs(pcm) > _AUDIBLE)
        if loud.size:
            self.last_at = time.monotonic()
            self.audible_s += len(pcm) / frame.sample_rate
            if self.first_at is None:
                self.first_at = self.last_at + int(loud[0]) / frame.sample_rate
        await asyncio.sleep(len(pcm) / frame.sample_rate)
        return True


class Recognising(SegmentedSTTService):
    """Our recogniser in Pipecat's frame for those that take whole segments."""

    def __init__(self, model: Recogniser, window: Window) -> None:
        super().__init__(
            sample_rate=_EAR_RATE_HZ, settings=STTSettings(model="starter", language=None)
        )
        self._recogniser, self._window = model, window

    @property
    def wants_wav_segments(self) -> bool:
        return False

    async def run_stt(self, audio: bytes) -> AsyncIterator[Any]:
        pcm = (np.frombuffer(audio, np.int16) / 32768).astype(np.float32)
        found = await asyncio.to_thread(self._recogniser.transcribe, pcm, window=self._window)
        text = found.text
        if text:
            yield TranscriptionFrame(text, "user", str(time.time()), finalized=True)


class Writing(LLMService):
    """Our language model, a token a frame."""

    def __init__(self, model: ChatModel, state: Any) -> None:
        super().__init__(settings=LLMSettings(model="starter"))
        self._chat, self._state = model, state
        self.users: list[str] = []

    async def process_frame(self, frame: Any, direction: Any) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        said = [
            {"role": str(m["role"]), "content": str(m["content"])}
            for m in frame.context.get_messages()
        ]
        self.users.append(said[-1]["content"])
        await self.push_frame(LLMFullResponseStartFrame())
        wanted = threading.Event()
        wanted.set()
        try:
            writing = self._chat.reply(self._state, said, Sampling(), wanted=wanted.is_set)
            while (piece := await asyncio.to_thread(next, writing, None)) is not None:
                await self.push_frame(LLMTextFrame(piece))
        finally:
            wanted.clear()
            await self.push_frame(LLMFullResponseEndFrame())


class Speaking(TTSService):
    """Our voice; Pipecat cuts the text into sentences."""

    def __init__(self, voice: Voice) -> None:
        super().__init__(
            push_start_frame=True,
            push_stop_frames=True,
            sample_rate=_MOUTH_RATE_HZ,
            settings=TTSSettings(model="starter", voice="starter", language=None),
        )
        self._speaker = voice
        self.said: list[str] = []

    async def run_tts(self, text: str, context_id: str) -> AsyncIterator[Any]:
        self.said.append(text)
        speech = await asyncio.to_thread(self._speaker.speak, text, seed=0)
        sound = (np.clip(speech.pcm, -1, 1) * 32767).astype(np.int16).tobytes()
        yield TTSAudioRawFrame(
            audio=sound, sample_rate=_MOUTH_RATE_HZ, num_channels=1, context_id=context_id
        )


async def ask(
    models: tuple[Recogniser, ChatModel, Voice],
    opening: list[dict[str, str]],
    path: Path,
    window: Window,
) -> dict[str, Any]:
    """One conversation of one question. opening: its messages, the last one still empty."""
    recogniser, chat, voice = models
    state = chat.start(seed=0, opening=opening)
    params = TransportParams(
        audio_in_enabled=True,
        audio_out_enabled=True,
        audio_in_sample_rate=_EAR_RATE_HZ,
        audio_out_sample_rate=_MOUTH_RATE_HZ,
    )
    pcm = read_mono(path, _EAR_RATE_HZ)
    ears, mouth = Ears(params, pcm), Mouth(params)
    writing, speaking = Writing(chat, state), Speaking(voice)
    both = LLMContextAggregatorPair(
        LLMContext(opening[:-1]),
        user_params=LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer()),
    )
    stages = [
        ears,
        Recognising(recogniser, window),
        both.user(),
        writing,
        speaking,
        mouth,
        both.assistant(),
    ]
    rates = PipelineParams(audio_in_sample_rate=_EAR_RATE_HZ, audio_out_sample_rate=_MOUTH_RATE_HZ)
    worker = PipelineWorker(Pipeline(stages), params=rates)
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    cpu = time.process_time()
    deadline = time.monotonic() + len(pcm) / _EAR_RATE_HZ + _LISTEN_S
    while time.monotonic() < deadline:
        await asyncio.sleep(0.05)
        if mouth.last_at and time.monotonic() - mouth.last_at > 1.5:
            break
    spent = time.process_time() - cpu
    await worker.cancel()
    await running
    chat.finish(state)
    first = None if mouth.first_at is None else round(mouth.first_at - ears.began, 4)
    return {
        "first_audible_s": first,
        "audible_s": round(mouth.audible_s, 2),
        "user": " | ".join(writing.users),
        "reply": " ".join(speaking.said),
        "cpu_s": round(spent, 2),
    }


def answers(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Load the models and answer each question."""
    recogniser = Recogniser({name: Path(p) for name, p in job["asr"].items()})
    chat = ChatModel(Path(job["llm"]), n_ctx=job["n_ctx"])
    voice = Voice({name: Path(p) for name, p in job["tts"].items()})
    recogniser.warm_up()
    voice.warm_up()
    for name, path in job["questions"]:
        models = (recogniser, chat, voice)
        found = asyncio.run(ask(models, job["opening"], Path(path), job["window"]))
        yield {"question": name, **found}


if __name__ == "__main__":
    for answer in answers(json.load(sys.stdin)):
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
