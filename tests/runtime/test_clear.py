"""ClearPort: one path for every engine's microphone, each part of which can be left out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from apps.session import cleared
from edge.config import AudioConfig
from edge.frame import FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm, silence
from runtime.sound.clear import Clarity, ClearPort
from runtime.sound.echo import EchoCanceller
from runtime.sound.levels import rms, to_db
from runtime.sound.lines import Room, telephone, through_room
from runtime.sound.port import PortCounters
from tests.runtime.rooms import hiss, voice, whole_frames


@dataclass
class Deaf:
    """A port that hears a recording; remembers what it was told."""

    heard: Pcm
    told: list[str] = field(default_factory=list)
    played: list[Pcm] = field(default_factory=list)
    at: int = 0

    def open(self) -> None:
        self.told.append("open")

    def read(self, *, engine_idle: bool) -> Pcm | None:
        frame = self.heard[self.at : self.at + FRAME_SAMPLES]
        self.at += FRAME_SAMPLES
        return frame if len(frame) else None

    def write(self, pcm: Pcm) -> None:
        self.played.append(pcm)

    def flush(self) -> int:
        self.told.append("flush")
        return 480

    def delay_ms(self) -> float | None:
        return 120.0

    def counters(self) -> PortCounters:
        return PortCounters(n_underruns=3)

    def close(self, *, completed: bool) -> None:
        self.told.append(f"close {completed}")


def listen(port: ClearPort, says: Pcm | None = None) -> tuple[Pcm, list[Clarity]]:
    """Read a port to its end while saying something; what was heard, and how well each frame."""
    heard, clear, n = [], [], 0
    port.open()
    while (pcm := port.read(engine_idle=False)) is not None:
        heard.append(pcm)
        clear.append(port.clarity)
        port.write(silence() if says is None else says[n : n + FRAME_SAMPLES])
        n += FRAME_SAMPLES
    port.close(completed=True)
    return np.concatenate(heard), clear


def test_good_sound_passes_to_the_bit_while_nothing_is_played() -> None:
    pcm = whole_frames(voice(3.0, seed=1) + hiss(3.0, level_db=-70, seed=2))
    for port in (ClearPort(Deaf(pcm)), ClearPort(Deaf(pcm), EchoCanceller())):
        assert np.array_equal(listen(port)[0], pcm)


def test_everything_else_is_the_port_s_own() -> None:
    inner = Deaf(whole_frames(voice(0.2, seed=1)))
    port = ClearPort(inner, EchoCanceller())
    listen(port, whole_frames(voice(0.2, seed=2)))
    assert port.flush() == 480
    assert port.counters() == PortCounters(n_underruns=3)
    assert port.delay_ms() == 120.0
    assert inner.told == ["open", "close True", "flush"]
    assert len(inner.played) == 3


def test_each_part_can_be_left_out() -> None:
    quiet = whole_frames(0.01 * voice(4.0, seed=3) + np.float32(0.02))
    as_it_is, _ = listen(ClearPort(Deaf(quiet), mend=False, auto_gain=False))
    assert np.array_equal(as_it_is, quiet)
    mended, _ = listen(ClearPort(Deaf(quiet), auto_gain=False))
    assert abs(float(np.mean(mended[-FRAME_SAMPLES:]))) < 0.01
    raised, clear = listen(ClearPort(Deaf(0.01 * voice(4.0, seed=3)[: 50 * FRAME_SAMPLES])))
    assert rms(raised) > 3 * rms(0.01 * voice(4.0, seed=3))
    assert clear[-1].microphone.gain_db > 10


@pytest.mark.parametrize("echo", [True, False])
def test_the_configuration_says_what_stands_in_the_path(echo: bool) -> None:
    pcm = whole_frames(voice(0.1, seed=4))
    assert (cleared(AudioConfig(), Deaf(pcm), echo=echo).clarity.echo is not None) is echo
    without = cleared(AudioConfig(echo_cancel=False), Deaf(pcm), echo=True)
    assert without.clarity.echo is None


def test_the_assistant_s_voice_does_not_come_back_and_is_silence_while_it_warms_up() -> None:
    says = whole_frames(voice(6.0, seed=5))
    # What is said with a frame is written after it was read, so it comes back one frame later.
    echo = through_room(says, Room(delay_ms=120 + 80))
    port = ClearPort(Deaf(echo), EchoCanceller(warm_up_ms=1_500))
    heard, clear = listen(port, says)
    warming = [c.echo is not None and c.echo.warming_up for c in clear]
    assert any(warming)
    assert not any(warming[30:])
    for index in np.flatnonzero(warming).tolist()[1:]:
        assert not heard[index * FRAME_SAMPLES :][:FRAME_SAMPLES].any()
    assert to_db(rms(heard[3 * SAMPLE_RATE_HZ :])) < to_db(rms(echo)) - 20
    assert clear[-1].echo is not None
    assert clear[-1].echo.erle_db is not None
    assert clear[-1].microphone.gain_db == 0, "an echo is nobody who speaks quietly"


def test_a_narrow_line_is_told_to_the_person() -> None:
    pcm = telephone(whole_frames(voice(5.0, seed=6) + hiss(5.0, level_db=-50, seed=7)))
    _, clear = listen(ClearPort(Deaf(pcm)))
    assert clear[-1].microphone.band_hz == 4_000
    assert "Bluetooth" in clear[-1].microphone.findings["telephone"]
