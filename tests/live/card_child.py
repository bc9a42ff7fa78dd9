"""A process that talks to the sound card, so that a test can start, stop and outlive it.

`echo` sends back what it hears until its standard input ends; `delay` sends noise and finds it
again in what it hears. Both print one line of JSON when sound flows and one at the end; `echo` also
prints one for each second.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from edge.frame import FRAME_MS, FRAME_SAMPLES, Pcm
from runtime.clock import SystemClock
from runtime.sound.card.connect import Wish
from runtime.sound.device import DevicePort, DeviceSettings

N_DELAY_FRAMES = 60


def say(facts: Mapping[str, object]) -> None:
    print(json.dumps(facts), flush=True)


def read(port: DevicePort) -> Pcm:
    pcm = port.read(engine_idle=False)
    assert pcm is not None
    return pcm


def echo(port: DevicePort) -> dict[str, object]:
    listener = threading.Thread(target=sys.stdin.read, daemon=True)
    listener.start()
    n_frames, loudest = 0, 0.0
    while listener.is_alive():
        pcm = read(port)
        port.write(pcm)
        n_frames += 1
        loudest = max(loudest, float(np.abs(pcm).max()))
        if n_frames % (1_000 // FRAME_MS) == 0:
            say({"n_reopened": port.counters().n_reopened, "loudest": loudest})
            loudest = 0.0
    return {"n_frames": n_frames}


def delay(port: DevicePort) -> dict[str, object]:
    rng = np.random.default_rng(0)
    heard, said, claimed_ms = [], [], []
    for _ in range(N_DELAY_FRAMES):
        heard.append(read(port))
        said.append((rng.standard_normal(FRAME_SAMPLES) * 0.1).astype(np.float32))
        port.write(said[-1])
        claimed_ms.append(port.delay_ms() or 0.0)
    n = 2 * N_DELAY_FRAMES * FRAME_SAMPLES
    spectrum = np.fft.rfft(np.concatenate(heard), n) * np.fft.rfft(np.concatenate(said), n).conj()
    shift = int(np.abs(np.fft.irfft(spectrum)[: n // 2]).argmax())
    return {
        "measured_ms": shift * FRAME_MS / FRAME_SAMPLES,
        "claimed_ms": float(np.median(claimed_ms)),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["echo", "delay"])
    parser.add_argument("--microphone")
    parser.add_argument("--speaker")
    args = parser.parse_args()
    port = DevicePort(DeviceSettings(wish=Wish(args.microphone, args.speaker)), SystemClock())
    port.open()
    port.write(read(port))
    say({"open": True})
    try:
        found = echo(port) if args.what == "echo" else delay(port)
        say({**found, "counters": asdict(port.counters())})
    finally:
        port.close(completed=True)


if __name__ == "__main__":
    main()
