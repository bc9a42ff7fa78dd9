"""Poor lines and rooms, made by calculation: what a talker's sound meets before it gets here.

Everything takes and gives float32 (n,), 24 kHz mono, whole recordings at a time, and is the same
for the same seed. For tests and benchmarks; a conversation never runs through it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edge.errors import UsageError
from edge.frame import SAMPLE_RATE_HZ, Pcm
from runtime.sound.levels import from_db, rms, speech_rms

_PER_MS = SAMPLE_RATE_HZ // 1_000
_PACKET_MS = 20
_TELEPHONE_EVERY = 3  # 24 kHz to 8 kHz
_TELEPHONE_LOW_HZ, _TELEPHONE_HIGH_HZ = 250.0, 3_400.0
_MU = 255.0  # companding of digital telephony
_NOISE_FLOOR_DB = -65.0


@dataclass(frozen=True, slots=True)
class Room:
    """The way from a loudspeaker to a microphone, or from a talker.

    delay_ms: of the direct sound, buffers included. reverb_ms: time in which the reverberation
    falls by 60 dB, and the length of the response. direct_db: direct sound over all reflections.
    drift_ppm: how much slower the microphone's clock runs. overdrive: how far the loudspeaker is
    bent, 0 not at all, 4 audibly. seed: which room.
    """

    delay_ms: float = 0.0
    reverb_ms: float = 150.0
    direct_db: float = 0.0
    drift_ppm: float = 0.0
    overdrive: float = 0.0
    seed: int = 0


def through_room(pcm: Pcm, room: Room) -> Pcm:
    """What arrives, as long as pcm; its level is that of pcm (RMS)."""
    sent = np.tanh(room.overdrive * pcm) / room.overdrive if room.overdrive else pcm
    rng = np.random.default_rng(room.seed)
    n_samples = max(2, round(room.reverb_ms * _PER_MS))
    at = np.arange(n_samples) / n_samples
    response = rng.standard_normal(n_samples) * 10 ** (-3 * at)
    response *= from_db(-room.direct_db) / np.sqrt(np.sum(response**2))
    response[0] = 1.0
    heard = _convolve(_drifted(sent, room.drift_ppm), response.astype(np.float32))
    n_late = round(room.delay_ms * _PER_MS)
    heard = np.concatenate([np.zeros(n_late, np.float32), heard])[: len(pcm)]
    return at_level(heard, rms(pcm))


def at_level(pcm: Pcm, level: float) -> Pcm:
    """Scaled to a root mean square; silence stays silence."""
    now = rms(pcm)
    return pcm if now == 0 else (pcm * np.float32(level / now)).astype(np.float32)


def with_noise(pcm: Pcm, *, snr_db: float, seed: int) -> Pcm:
    """Noise like that of a room or a road (falling by 3 dB an octave), snr_db below the speech."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal(len(pcm)))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), len(spectrum) / 240))
    noise = np.fft.irfft(spectrum, len(pcm)).astype(np.float32)
    return pcm + at_level(noise, speech_rms(pcm) * from_db(-snr_db))


def telephone(pcm: Pcm) -> Pcm:
    """An 8 kHz telephone: 250 to 3 400 Hz, companded to 8 bits."""
    sent = _band(pcm, _TELEPHONE_LOW_HZ, _TELEPHONE_HIGH_HZ)[::_TELEPHONE_EVERY]
    sent = np.clip(sent, -1, 1)
    pressed = np.sign(sent) * np.log1p(_MU * np.abs(sent)) / np.log1p(_MU)
    coded = np.round(pressed * 127) / 127
    got = np.sign(coded) * np.expm1(np.abs(coded) * np.log1p(_MU)) / _MU
    wide = np.zeros(len(pcm), np.float32)
    wide[::_TELEPHONE_EVERY] = got * _TELEPHONE_EVERY
    return _band(wide, 0.0, SAMPLE_RATE_HZ / 2 / _TELEPHONE_EVERY - 300)


def lost_packets(n_packets: int, *, part: float, burst: float, seed: int) -> NDArray[np.bool_]:
    """Which packets a network loses, bool (n_packets,): part of all, in runs of `burst` on average.

    Raises UsageError.
    """
    if not (0 <= part < 1 and burst >= 1):
        raise UsageError(f"part {part} must be 0 to 1 and burst {burst} at least 1")
    rng = np.random.default_rng(seed)
    begins = part / (burst * (1 - part))
    lost = np.zeros(n_packets, bool)
    now = False
    for index, draw in enumerate(rng.random(n_packets).tolist()):
        now = draw >= 1 / burst if now else draw < begins
        lost[index] = now
    return lost


def without_packets(pcm: Pcm, lost: NDArray[np.bool_]) -> Pcm:
    """Exact zeros where a 20 ms packet was lost; lost: bool (at least n / 480,)."""
    out = pcm.copy()
    for index in np.flatnonzero(lost):
        out[index * _PACKET_MS * _PER_MS : (index + 1) * _PACKET_MS * _PER_MS] = 0
    return out


def lateness_ms(n_frames: int, *, spread_ms: float, seed: int) -> NDArray[np.float64]:
    """How late each frame or packet arrives on a jittery line, float64 (n_frames,), >= 0.

    Mostly little, now and then several times spread_ms: exponential, and packets never overtake.
    """
    rng = np.random.default_rng(seed)
    late = rng.exponential(spread_ms, n_frames)
    for index in range(1, n_frames):
        late[index] = max(late[index], late[index - 1] - _PACKET_MS)
    return late


def jittered(pcm: Pcm, *, spread_ms: float, buffer_ms: float, seed: int) -> Pcm:
    """A jittery line behind a buffer of buffer_ms: packets that come later than it are zeros."""
    n_packets = -(-len(pcm) // (_PACKET_MS * _PER_MS))
    late = lateness_ms(n_packets, spread_ms=spread_ms, seed=seed)
    return without_packets(pcm, late > buffer_ms)


def far_microphone(pcm: Pcm, *, seed: int) -> Pcm:
    """A talker three metres away in a living room: more room than voice, 12 dB down, some hiss."""
    room = Room(reverb_ms=400.0, direct_db=-3.0, seed=seed)
    heard = through_room(pcm, room) * np.float32(from_db(-12))
    rng = np.random.default_rng(seed + 1)
    hiss = rng.standard_normal(len(pcm)) * from_db(_NOISE_FLOOR_DB)
    return (heard + hiss).astype(np.float32)


def quiet_talker(pcm: Pcm) -> Pcm:
    """30 dB down, rounded to 16 bits as a sound card does."""
    return (np.round(pcm * from_db(-30) * 32_767) / 32_767).astype(np.float32)


def _lossy(pcm: Pcm, seed: int) -> Pcm:
    n_packets = -(-len(pcm) // (_PACKET_MS * _PER_MS))
    return without_packets(pcm, lost_packets(n_packets, part=0.03, burst=1.5, seed=seed))


# What the bench runs; lost packets come as exact zeros, as from a receiver that conceals nothing.
CONDITIONS: Mapping[str, Callable[[Pcm, int], Pcm]] = MappingProxyType(
    {
        "clean": lambda pcm, _seed: pcm,
        "telephone": lambda pcm, _seed: telephone(pcm),
        "loss": _lossy,
        "jitter": lambda pcm, seed: jittered(pcm, spread_ms=12, buffer_ms=60, seed=seed),
        "noise": lambda pcm, seed: with_noise(pcm, snr_db=10, seed=seed),
        "far": lambda pcm, seed: far_microphone(pcm, seed=seed),
        "quiet": lambda pcm, _seed: quiet_talker(pcm),
        "worst": lambda pcm, seed: _lossy(
            telephone(with_noise(pcm, snr_db=10, seed=seed)), seed + 1
        ),
    }
)


def degrade(condition: str, pcm: Pcm, *, seed: int) -> Pcm:
    """Send float32 (n,) over one of CONDITIONS. Raises UsageError for an unknown name."""
    try:
        line = CONDITIONS[condition]
    except KeyError:
        known = ", ".join(CONDITIONS)
        raise UsageError(f"there is no line called {condition!r}; known: {known}") from None
    return line(pcm, seed)


def _convolve(pcm: Pcm, response: Pcm) -> Pcm:
    size = 1 << (len(pcm) + len(response) - 1).bit_length()
    product = np.fft.rfft(pcm, size) * np.fft.rfft(response, size)
    return np.fft.irfft(product, size)[: len(pcm)].astype(np.float32)


def _band(pcm: Pcm, low_hz: float, high_hz: float) -> Pcm:
    """Keep low_hz..high_hz, with edges 200 Hz wide, without any delay."""
    bins_hz = np.fft.rfftfreq(len(pcm), 1 / SAMPLE_RATE_HZ)
    keep = np.clip((high_hz - bins_hz) / 200 + 1, 0, 1)
    if low_hz > 0:
        keep *= np.clip((bins_hz - low_hz) / 200 + 1, 0, 1)
    return np.fft.irfft(np.fft.rfft(pcm) * keep, len(pcm)).astype(np.float32)


def _drifted(pcm: Pcm, ppm: float) -> Pcm:
    """Read a little faster than it was written: cubic interpolation between samples."""
    if ppm == 0 or len(pcm) < 4:
        return pcm
    at = np.arange(len(pcm)) * (1 + ppm * 1e-6)
    first = np.clip(np.floor(at).astype(np.int64), 1, len(pcm) - 3)
    part = at - first
    a, b, c, d = (pcm[first + k] for k in (-1, 0, 1, 2))
    curve = c - a + part * (2 * a - 5 * b + 4 * c - d + part * (3 * (b - c) + d - a))
    return np.where(at < len(pcm) - 1, b + 0.5 * part * curve, 0).astype(np.float32)
