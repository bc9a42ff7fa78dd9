"""DevicePort on a real PortAudio device, whose sound goes through a real sound server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edge.frame import SAMPLE_RATE_HZ, Pcm
from tests.live.virtual_sound import MICROPHONE, SPEAKER, VirtualSound

pytestmark = pytest.mark.live

# Not a whole number of periods in a block, so that a block lost or repeated breaks the phase.
TONE_HZ = 1_013
TONE_S = 3.0
HOP_SAMPLES = SAMPLE_RATE_HZ // 200
N_TRIES = 4
ROOT = Path(__file__).resolve().parents[2]


class Child:
    """A running card_child."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        assert answer, "the child has ended early"
        facts: dict[str, Any] = json.loads(answer)
        return facts

    def until(self, wanted: Callable[[dict[str, Any]], bool], n_lines: int) -> dict[str, Any]:
        for _ in range(n_lines):
            if wanted(facts := self.line()):
                return facts
        pytest.fail(f"not within {n_lines} lines; the last was {facts}")

    def end(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self.until(lambda facts: "counters" in facts, 30)


@contextmanager
def child(sound: VirtualSound, *args: str) -> Iterator[Child]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.live.card_child", *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env=sound.env,
    ) as process:
        try:
            running = Child(process)
            running.until(lambda facts: "open" in facts, 1)
            yield running
        finally:
            process.kill()


def write_tone(path: Path, seconds: float) -> Path:
    k = np.arange(int(seconds * SAMPLE_RATE_HZ))
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * TONE_HZ * k / SAMPLE_RATE_HZ), SAMPLE_RATE_HZ)
    return path


def tone_in(path: Path) -> Pcm:
    """The part of a recording in which anything sounds, less 50 ms at both ends."""
    pcm, rate_hz = soundfile.read(path, dtype="float32")
    assert rate_hz == SAMPLE_RATE_HZ
    loud = np.flatnonzero(np.abs(pcm) > 0.1)
    assert len(loud), "nothing was heard"
    edge = SAMPLE_RATE_HZ // 20
    part: Pcm = pcm[loud[0] + edge : loud[-1] - edge]
    return part


def main_frequency_hz(pcm: Pcm) -> float:
    n = 8 * len(pcm)
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm)), n))
    return float(spectrum.argmax()) * SAMPLE_RATE_HZ / n


def n_breaks(pcm: Pcm) -> int:
    """Count the places where the tone's level or phase jumps, looked at every 5 ms."""
    k = np.arange(len(pcm))
    turned = pcm * np.exp(-2j * np.pi * TONE_HZ * k / SAMPLE_RATE_HZ)
    hops = turned[: len(turned) // HOP_SAMPLES * HOP_SAMPLES].reshape(-1, HOP_SAMPLES).mean(axis=1)
    level = np.abs(hops) / np.median(np.abs(hops))
    turn = np.abs(np.angle(hops[1:] * hops[:-1].conj()))
    return int(np.sum(np.abs(level - 1) > 0.3)) + int(np.sum(turn > 0.4))


@pytest.mark.parametrize("names", [(), ("--microphone", MICROPHONE, "--speaker", SPEAKER)])
def test_a_tone_goes_from_microphone_to_speaker_unbroken(
    sound: VirtualSound, tmp_path: Path, names: tuple[str, ...]
) -> None:
    """A busy machine may be late now and then, but not without its being counted."""
    tone = write_tone(tmp_path / "tone.wav", TONE_S)
    n_silent_breaks, tries = 0, []
    for _ in range(N_TRIES):
        counters = echo_tone(sound, tone, tmp_path, names)
        played = tone_in(tmp_path / "speaker.wav")
        assert abs(main_frequency_hz(played) - TONE_HZ) < 1
        faults = {name: n for name, n in counters.items() if n and "pending" not in name}
        breaks = n_breaks(played), n_breaks(tone_in(tmp_path / "microphone.wav"))
        tries.append((faults, breaks))
        if not faults and breaks == (0, 0):
            assert abs(len(played) / SAMPLE_RATE_HZ - (TONE_S - 0.1)) < 0.02
            return
        n_silent_breaks += not faults and not breaks[1]
        assert n_silent_breaks <= 1, tries
    pytest.fail(f"not once in {N_TRIES} tries: {tries}")


def echo_tone(
    sound: VirtualSound, tone: Path, folder: Path, names: tuple[str, ...]
) -> dict[str, int]:
    """Play a tone into the microphone while a child echoes; record both ends, give its counters."""
    with child(sound, "echo", *names) as echo:
        microphone, speaker = folder / "microphone.wav", folder / "speaker.wav"
        with sound.record_microphone(microphone), sound.record_speaker(speaker):
            sound.play_into_microphone(tone)
            echo.until(lambda facts: facts["loudest"] < 0.1, 10)
        counters: dict[str, int] = echo.end()["counters"]
    return counters


def test_a_sound_server_that_dies_and_comes_back_is_found_again(
    sound: VirtualSound, tmp_path: Path
) -> None:
    tone = write_tone(tmp_path / "tone.wav", 30.0)
    with child(sound, "echo") as echo, ExitStack() as stack:
        with sound.playing(tone):
            echo.until(lambda facts: facts["loudest"] > 0.1, 10)
            sound.kill()
        echo.until(lambda facts: facts["loudest"] == 0.0, 10)
        sound.start()
        stack.enter_context(sound.playing(tone))
        echo.until(lambda facts: facts["n_reopened"] == 1 and facts["loudest"] > 0.1, 30)
        with sound.record_speaker(tmp_path / "speaker.wav"):
            echo.until(lambda facts: facts["loudest"] > 0.1, 2)
            echo.until(lambda facts: facts["loudest"] > 0.1, 2)
        assert echo.end()["counters"]["n_reopened"] == 1
    assert abs(main_frequency_hz(tone_in(tmp_path / "speaker.wav")) - TONE_HZ) < 2


def test_a_device_pulled_out_while_the_server_runs_is_found_again(sound: VirtualSound) -> None:
    with child(sound, "echo") as echo:
        sound.pactl("unload-module", "module-null-sink")
        echo.until(lambda facts: facts["n_reopened"] == 0, 5)
        for name in (MICROPHONE, SPEAKER):
            sound.pactl("load-module", "module-null-sink", f"sink_name={name}", "norewinds=1")
        sound.pactl("set-default-sink", SPEAKER)
        sound.pactl("set-default-source", f"{MICROPHONE}.monitor")
        facts = echo.until(lambda facts: facts["n_reopened"] >= 1, 30)
    assert facts["n_reopened"] >= 1


def test_the_delay_that_is_claimed_is_the_delay_that_is_there(sound: VirtualSound) -> None:
    """The speaker's own sound is made the microphone, as in a room without any distance."""
    sound.pactl("set-default-source", f"{SPEAKER}.monitor")
    with child(sound, "delay") as noise:
        found = noise.until(lambda facts: "counters" in facts, 1)
    assert abs(found["claimed_ms"] - found["measured_ms"]) < 60


def test_devices_are_listed_and_the_virtual_ones_are_the_default(sound: VirtualSound) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "apps.cli", "devices", "--json"],
        env=sound.env,
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    devices = {device["name"]: device for device in json.loads(listed)["devices"]}
    assert {MICROPHONE, SPEAKER, "default"} <= set(devices)
    assert devices["default"]["is_default_input"]
    assert devices["default"]["is_default_output"]
