"""Which sound devices are there now: listed by a short child process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict

from edge.errors import DeviceError, EdgeError
from runtime.sound.device_info import DeviceInfo


def child_command() -> list[str]:
    """Command line of a child process that runs `child_main`."""
    return [sys.executable, "-m", "runtime.sound.devices"]


def list_devices(
    *, timeout_s: float = 10.0, command: Sequence[str] | None = None
) -> list[DeviceInfo]:
    """Look for sound devices in a short child process.

    PortAudio's own list is frozen when it is initialised, and initialising it again would end the
    streams of this process; a child always sees what is plugged in now.
    command: another command line that ends in `child_main`, for programs without `python -m`.
    Raises DeviceError: no PortAudio, no answer within timeout_s; MissingPackageError.
    """
    try:
        done = subprocess.run(
            command or child_command(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"the sound system did not list its devices within {timeout_s:g} s; "
            "restart the sound server (PipeWire or PulseAudio) or unplug the device that hangs"
        ) from error
    return _parse(done.stdout, done.returncode, done.stderr)


def _parse(stdout: str, returncode: int, stderr: str) -> list[DeviceInfo]:
    """Read the child's one line of JSON; whatever libraries print around it is not looked at."""
    lines = stdout.strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if lines else {}
        if "error" in answer:
            raise DeviceError(str(answer["error"]))
        return [DeviceInfo(**entry) for entry in answer["devices"]]
    except (ValueError, KeyError, TypeError) as error:
        last = (stderr.strip().splitlines() or ["nothing"])[-1]
        raise DeviceError(
            f"listing the sound devices ended with exit code {returncode} and said: {last}; "
            "`edge doctor` tells more"
        ) from error


def child_main() -> int:
    """Print this process's devices, or why there are none, as one line of JSON on stdout."""
    from runtime.sound.card.portaudio import PortAudio

    try:
        answer: dict[str, object] = {"devices": [asdict(d) for d in PortAudio().devices()]}
    except EdgeError as error:
        answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(child_main())
