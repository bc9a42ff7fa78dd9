"""A sound card in software: a private PulseAudio with a virtual microphone and a virtual speaker.

What is played into the sink `virtual_microphone` is what the default microphone hears; what is
played on the default speaker, the sink `virtual_speaker`, can be recorded. Nothing of the user's
own sound server or ALSA settings is read or touched.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.errors import DeviceError
from runtime.sound.device_info import DeviceInfo, default_device
from runtime.sound.devices import list_devices

MICROPHONE, SPEAKER = "virtual_microphone", "virtual_speaker"
_TOOLS = ("pulseaudio", "pactl", "paplay", "parec")
_WAIT_S = 15.0

# norewinds keeps a null sink's blocks at 50 ms; without it, it works up to two seconds ahead.
_PULSE_SCRIPT = """
load-module module-native-protocol-unix auth-anonymous=1 socket={socket}
load-module module-null-sink sink_name={microphone} norewinds=1 rate=48000 channels=1
load-module module-null-sink sink_name={speaker} norewinds=1 rate=48000 channels=2
set-default-sink {speaker}
set-default-source {microphone}.monitor
"""
_ALSA_CONFIG = """
pcm.default {{ type pulse }}
ctl.default {{ type pulse }}
pcm.{microphone} {{ type pulse device "{microphone}.monitor" }}
pcm.{speaker} {{ type pulse device "{speaker}" }}
"""


class VirtualSound:
    """A running daemon. env: the environment in which PortAudio finds it as the default device."""

    def __init__(self) -> None:
        # A short path: the address of a Unix socket has room for about a hundred characters.
        self._folder = Path(tempfile.mkdtemp(prefix="edge-sound-"))
        self._socket = self._folder / "socket"
        names = {"microphone": MICROPHONE, "speaker": SPEAKER, "socket": self._socket}
        self._script = self._folder / "start.pa"
        self._script.write_text(_PULSE_SCRIPT.format(**names))
        alsa = self._folder / "asound.conf"
        alsa.write_text(_ALSA_CONFIG.format(**names))
        client = self._folder / "client.conf"
        client.write_text("autospawn = no\n")
        self.env = dict(os.environ) | {
            "ALSA_CONFIG_PATH": str(alsa),
            "PULSE_CLIENTCONFIG": str(client),
            "PULSE_COOKIE": str(self._folder / "cookie"),
            "PULSE_RUNTIME_PATH": str(self._folder),
            "PULSE_SERVER": f"unix:{self._socket}",
            "PULSE_STATE_PATH": str(self._folder),
        }
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemon and wait until it answers. Raises RuntimeError."""
        self._socket.unlink(missing_ok=True)
        options = ["-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
        options += ["--disable-shm=yes", "--high-priority=no", "--realtime=no", "-F"]
        log = self._folder / "log"
        with log.open("ab") as output:
            self._daemon = subprocess.Popen(
                ["pulseaudio", *options, str(self._script)],
                env=self.env,
                stdout=output,
                stderr=output,
            )
        if not self._wait_for(["pactl", "info"], SPEAKER):
            raise RuntimeError(f"pulseaudio does not answer: {log.read_text()[-500:]}")

    def kill(self) -> None:
        """End the daemon as a crash would; every device is gone."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait()
            self._daemon = None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def devices(self) -> list[DeviceInfo]:
        """What a process in this environment sees through PortAudio."""
        return list_devices(
            command=["env", *(f"{k}={v}" for k, v in self._own_env()), *_child()], timeout_s=30
        )

    def play_into_microphone(self, path: Path) -> None:
        """Play a sound file to whoever listens to the microphone; returns when it has ended."""
        with self.playing(path) as player:
            player.wait()

    @contextmanager
    def playing(self, path: Path) -> Iterator[subprocess.Popen[bytes]]:
        """While inside, play a sound file into the microphone, until it ends."""
        player = subprocess.Popen(
            ["paplay", f"--device={MICROPHONE}", "--latency-msec=50", str(path)],
            env=self.env,
            stderr=subprocess.DEVNULL,  # it complains when a test ends the daemon under it
        )
        try:
            yield player
        finally:
            player.kill()
            player.wait()

    @contextmanager
    def record_speaker(self, path: Path) -> Iterator[None]:
        """While inside, record what the speaker plays to a WAV file: 24 kHz mono."""
        with self._record(SPEAKER, path):
            yield

    @contextmanager
    def record_microphone(self, path: Path) -> Iterator[None]:
        """While inside, record what the microphone is given to hear, likewise."""
        with self._record(MICROPHONE, path):
            yield

    @contextmanager
    def _record(self, sink: str, path: Path) -> Iterator[None]:
        name = f"recorder of {sink}"
        recorder = subprocess.Popen(
            [
                *("parec", f"--device={sink}.monitor", f"--stream-name={name}"),
                *("--rate=24000", "--channels=1", "--format=s16le", "--file-format=wav"),
                *("--latency-msec=50", str(path)),
            ],
            env=self.env,
        )
        try:
            if not self._wait_for(["pactl", "list", "source-outputs"], name):
                raise RuntimeError("parec did not begin to record")
            yield
        finally:
            recorder.send_signal(signal.SIGINT)  # ends the file properly
            recorder.wait()

    def pactl(self, *args: str) -> str:
        """Run pactl; returns what it says."""
        command = ["pactl", *args]
        return subprocess.run(
            command, env=self.env, check=True, text=True, capture_output=True, timeout=_WAIT_S
        ).stdout

    def _own_env(self) -> list[tuple[str, str]]:
        return [(k, v) for k, v in self.env.items() if os.environ.get(k) != v]

    def _wait_for(self, command: list[str], text: str) -> bool:
        """Repeat a command until its output contains the text; tells whether it ever did."""
        give_up = time.monotonic() + _WAIT_S
        while time.monotonic() < give_up:
            done = subprocess.run(
                command, env=self.env, check=False, text=True, capture_output=True, timeout=_WAIT_S
            )
            if text in done.stdout:
                return True
            time.sleep(0.05)
        return False


def why_not() -> str | None:
    """Say in a sentence why there can be no virtual sound card here; None if there can."""
    if not sys.platform.startswith("linux"):
        return "the virtual sound card is made of PulseAudio, on Linux only"
    absent = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if absent:
        return (
            f"{', '.join(absent)} not found; apt install pulseaudio pulseaudio-utils "
            "libportaudio2 libasound2-plugins"
        )
    return None


@contextmanager
def virtual_sound() -> Iterator[VirtualSound]:
    """Run one for a while. Raises RuntimeError with the reason where that cannot be."""
    if reason := why_not():
        raise RuntimeError(reason)
    sound = VirtualSound()
    try:
        sound.start()
        try:
            default_device(sound.devices(), "input")
        except DeviceError as error:
            raise RuntimeError(
                f"PortAudio does not see PulseAudio ({error}); "
                "apt install libportaudio2 libasound2-plugins"
            ) from error
        yield sound
    finally:
        sound.close()


def _child() -> list[str]:
    return [sys.executable, "-m", "runtime.sound.devices"]
