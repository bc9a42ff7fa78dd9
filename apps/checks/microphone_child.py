"""Half a second from the microphone, in a process of its own: a sound system that hangs or crashes
does so here. `python -m apps.checks.microphone_child [NAME]`.
"""

from __future__ import annotations

import sys
import threading

import numpy as np

from apps.checks.child import answer
from edge.errors import EdgeError
from edge.frame import Pcm
from runtime.sound.card.portaudio import PortAudio, StreamSpec
from runtime.sound.device_info import default_device, match

LISTEN_S = 0.5
PATIENCE_S = 3.0


def listen(name: str) -> dict[str, object]:
    """Record from a device (empty: the default). Gives its name, sample count and peak, 0..1."""
    backend = PortAudio()
    devices = backend.devices()
    source = match(devices, name, "input") if name else default_device(devices, "input")
    n_wanted = int(source.default_rate_hz * LISTEN_S)
    n_heard, peak = 0, 0.0
    enough = threading.Event()

    def on_block(heard: Pcm, _play: Pcm, _a: float, _b: float, _c: bool, _d: bool, /) -> None:
        nonlocal n_heard, peak
        n_heard += len(heard)
        peak = max(peak, float(np.abs(heard).max(initial=0.0)))
        if n_heard >= n_wanted:
            enough.set()

    spec = StreamSpec(source, None, source.default_rate_hz, 1, 0)
    stream = backend.open_stream(spec, on_block, enough.set)
    stream.start()
    enough.wait(PATIENCE_S)
    stream.close()
    return {"name": source.name, "n_samples": n_heard, "peak": peak}


def main(arguments: list[str]) -> None:
    """Listen to the device named, or to the default."""
    try:
        answer(listen(arguments[0] if arguments else ""))
    except EdgeError as error:
        answer(error)


if __name__ == "__main__":
    main(sys.argv[1:])
