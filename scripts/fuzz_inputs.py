"""What the fuzzer feeds: inputs that are nearly right, made by hypothesis for each parser.

Random bytes stop at the first check. These have the structure of the real thing, whole checksums
included, and are wrong somewhere inside; a part are real files with random damage, a part noise.
"""

from __future__ import annotations

import hashlib
import json
import struct
import tomllib
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import tomli_w
from hypothesis import strategies as st

from apps.daemon.protocol import COMMANDS
from edge.config import settings

Bytes = st.SearchStrategy[bytes]
_ROOT = Path(__file__).resolve().parent.parent
_LONGEST = 1 << 16

_TEXT = st.text(max_size=20)
_WORD = st.sampled_from(["", "on", "../x", "/etc", "0" * 64, "a b", "\x00", "é", "9" * 30, "true"])
_NUMBER = st.integers(-(2**64), 2**64) | st.sampled_from([0, 1, -1, 2**31, 2**32 - 1, 2**63 - 1])
_PLAIN = _TEXT | _WORD | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
_TOML_NUMBER = st.integers(-(2**63), 2**63 - 1)
_TOML = st.recursive(
    _PLAIN | _TOML_NUMBER,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=5,
)
_JSON = st.recursive(
    st.none() | _PLAIN | _NUMBER,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def damaged(draw: st.DrawFn, whole: Bytes) -> bytes:
    """A few bytes of a right input changed, cut, doubled or made up."""
    data = bytearray(draw(whole)[:_LONGEST])
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.integers(0, 3))
        if kind == 0 and data:
            data[at] = draw(st.integers(0, 255))
        elif kind == 1:
            del data[at : at + draw(st.integers(1, 64))]
        elif kind == 2:
            data[at:at] = data[at : at + draw(st.integers(1, 256))]
        else:
            data[at:at] = draw(st.sampled_from([b"\0", b"\xff" * 8, b"9" * 20, b"[" * 50, b'"']))
    return bytes(data[:_LONGEST])


@st.composite
def altered(draw: st.DrawFn, tree: Any, values: st.SearchStrategy[Any]) -> Any:
    """A copy of a tree of tables, lists and values in which some places hold something else."""
    found = json.loads(json.dumps(tree))
    for _ in range(draw(st.integers(0, 4))):
        place: Any = found
        while True:
            if isinstance(place, dict):
                keys: list[Any] = list(place)
            else:
                keys = list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            deeper = isinstance(place[key], dict | list) and bool(place[key])
            if deeper and draw(st.integers(0, 3)):
                place = place[key]
                continue
            kind = draw(st.integers(0, 3))
            if kind == 0:
                del place[key]
            elif kind == 1 and isinstance(place, dict):
                place[draw(_TEXT)] = draw(values)
            else:
                place[key] = draw(values)
            break
    return found


def _mixed(right: Bytes, seeds: list[bytes]) -> Bytes:
    """Mostly the structured ones; some of them damaged; some real ones damaged; some noise."""
    return st.one_of(
        right, right, damaged(right), damaged(st.sampled_from(seeds)), st.binary(max_size=300)
    )


def _toml(tree: Mapping[str, Any]) -> bytes:
    return tomli_w.dumps(tree).encode()


def control() -> Bytes:
    """A line of the control socket."""
    names = sorted({name for wanted in COMMANDS.values() for name in wanted} | {"id", "do"})
    facts = st.dictionaries(st.sampled_from(names) | _TEXT, _JSON, max_size=4)
    asked = st.builds(lambda do, more: {"do": do, **more}, st.sampled_from(sorted(COMMANDS)), facts)
    return _mixed(
        (asked | facts | _JSON).map(lambda found: json.dumps(found).encode()),
        [json.dumps({"do": do, "id": 1, "on": True}).encode() for do in COMMANDS],
    )


def server() -> Bytes:
    """What a client sends: whole lines, halves, several at once."""
    ends = st.sampled_from([b"\n", b"\n", b"", b"\r\n", b"\n\n"])
    piece = st.builds(lambda line, end: line + end, control(), ends)
    return st.lists(piece, max_size=6).map(b"".join)


def lock() -> Bytes:
    """models.lock with a few of its models."""
    real = (_ROOT / "models.lock").read_bytes()
    whole = tomllib.loads(real.decode())
    few = st.lists(st.sampled_from(whole["model"]), min_size=1, max_size=3)
    trees = few.flatmap(lambda some: altered({"version": 1, "model": some}, _TOML))
    return _mixed(trees.map(_toml), [real[: _LONGEST // 8]])


def config() -> Bytes:
    """config.toml: real settings with their own, and with other values."""
    tables: dict[str, dict[str, Any]] = {}
    for one in settings().values():
        default = list(one.default) if isinstance(one.default, tuple) else one.default
        tables.setdefault(one.table, {})[one.key] = default
    return _mixed(altered(tables, _TOML).map(_toml), [b'[talk]\nengine = "cascade"\nseed = 3\n'])


def manifest() -> Bytes:
    """An artifact's manifest.toml."""
    found = sorted(_ROOT.glob("apps/assets/**/manifest.toml"))
    seeds = [path.read_bytes() for path in found]
    trees = st.sampled_from([tomllib.loads(seed.decode()) for seed in seeds])
    return _mixed(trees.flatmap(lambda tree: altered(tree, _TOML)).map(_toml), seeds)


@st.composite
def _token_file(draw: st.DrawFn) -> bytes:
    """A token file with a right checksum over what may be wrong."""
    n_codebooks = draw(st.integers(0, 255) | st.integers(1, 8))
    bins = draw(st.sampled_from([0, 1, 2, 3, 2047, 2048, 2**31, 2**32 - 1]) | st.integers(0, 4096))
    version, zero = draw(st.sampled_from([1, 1, 1, 0, 2, 255])), draw(st.sampled_from([0, 0, 9]))
    head = struct.pack("<4sBBHI32s", b"EDTK", version, n_codebooks, zero, bins, bytes(32))
    width = -(-n_codebooks * max(0, bins - 1).bit_length() // 8)
    n_frames = draw(st.integers(0, 6))
    size = max(0, width * n_frames + draw(st.sampled_from([0, 0, 0, 1, -1, 7])))
    body = draw(st.binary(min_size=size, max_size=size)) if size <= 4096 else bytes(size)
    exact = n_frames * 1920 - draw(st.sampled_from([0, 0, 1, 1919, 1920]))
    odd = st.sampled_from([0, 1, 1921, 2**63, 2**64 - 1])
    n_samples = draw(st.just(max(0, exact)) | st.just(max(0, exact)) | odd)
    checked = head + body + struct.pack("<Q", n_samples)
    crc = zlib.crc32(checked) if draw(st.integers(0, 9)) else draw(st.integers(0, 2**32 - 1))
    return (
        checked + struct.pack("<I4s", crc, b"KTDE") + draw(st.sampled_from([b"", b"", b"", b"x"]))
    )


def tokens() -> Bytes:
    """A token file."""
    head = struct.pack("<4sBBHI32s", b"EDTK", 1, 8, 0, 2048, bytes(32))
    whole = head + bytes(44) + struct.pack("<Q", 4 * 1920)
    whole += struct.pack("<I4s", zlib.crc32(whole), b"KTDE")
    return _mixed(_token_file(), [whole])


@st.composite
def _chunk(draw: st.DrawFn, order: str) -> bytes:
    """One chunk of a RIFF or FORM file, its size right or not."""
    name = draw(st.sampled_from([b"fmt ", b"data", b"data", b"ds64", b"LIST", b"fact", b"SSND"]))
    if name == b"fmt ":
        form = draw(st.sampled_from([1, 1, 3, 6, 7, 17, 0xFFFE, 0]))
        channels = draw(st.sampled_from([1, 1, 2, 0, 8, 65535]))
        rate = draw(st.sampled_from([24000, 16000, 44100, 1, 0, 2**31, 2**32 - 1]))
        bits = draw(st.sampled_from([16, 16, 8, 24, 32, 64, 0, 65535]))
        block = draw(st.just(channels * bits // 8 % 65536) | st.integers(0, 65535))
        body = struct.pack(
            order + "HHIIHH", form, channels, rate, rate * block % 2**32, block, bits
        )
        body += draw(st.sampled_from([b"", b"\0\0", bytes(24)]))
    elif name == b"ds64":
        sizes = st.sampled_from([0, 4096, 2**63, 2**64 - 1])
        body = struct.pack("<QQQI", draw(sizes), draw(sizes), draw(sizes), 0)
    else:
        body = draw(st.binary(max_size=64)) * draw(st.sampled_from([1, 1, 40, 400]))
    exact = st.just(len(body))
    wrong = st.sampled_from([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFF000])
    size = draw(exact | exact | exact | wrong)
    return name + struct.pack(order + "I", size) + body + b"\0" * (len(body) % 2)


@st.composite
def _sound_file(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from([b"RIFF", b"RIFF", b"RF64", b"RIFX", b"FORM"]))
    order = "<" if kind in (b"RIFF", b"RF64") else ">"
    usual = b"fmt " + struct.pack(order + "IHHIIHH", 16, 1, 1, 24000, 48000, 2, 16)
    parts = draw(st.lists(_chunk(order), max_size=4))
    if draw(st.integers(0, 2)):
        parts.insert(0, usual)
    body = (b"AIFF" if kind == b"FORM" else b"WAVE") + b"".join(parts)
    size = draw(st.just(len(body)) | st.sampled_from([0, 0xFFFFFFFF]))
    return (kind + struct.pack(order + "I", size) + body)[:_LONGEST]


def wav() -> Bytes:
    """A sound file."""
    usual = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 24000, 48000, 2, 16)
    whole = b"WAVE" + usual + b"data" + struct.pack("<I", 2048) + bytes(2048)
    flac = (_ROOT / "apps/assets/question.flac").read_bytes()[:_LONGEST]
    return _mixed(_sound_file(), [b"RIFF" + struct.pack("<I", len(whole)) + whole, flac])


@st.composite
def _saved_state(draw: st.DrawFn) -> bytes:
    """A state file with a right checksum over a header that may be wrong."""
    body = draw(st.binary(max_size=256))
    shape = st.lists(st.integers(0, 64) | st.sampled_from([2**31, 2**62, -1]), max_size=3)
    spot = st.lists(st.integers(0, 300) | st.sampled_from([-1, 2**63]), min_size=2, max_size=2)
    dtype = st.sampled_from(["F32", "F16", "I64", "U8", "X"])
    entry = st.fixed_dictionaries({"dtype": dtype, "shape": shape, "data_offsets": spot})
    header: dict[str, Any] = draw(st.dictionaries(_TEXT, entry | _JSON, max_size=3))
    sha256 = hashlib.sha256(body).hexdigest()
    header["__metadata__"] = {"kind": "state", "model": "m", "sha256": sha256}
    text = json.dumps(draw(altered(header, _JSON)) if draw(st.booleans()) else header).encode()
    size = draw(st.just(len(text)) | st.just(len(text)) | st.sampled_from([0, 2**63, 2**64 - 1]))
    return struct.pack("<Q", size) + text + body


def state() -> Bytes:
    """What a model keeps of a prompt that it has read."""
    return _mixed(_saved_state(), [struct.pack("<Q", 2) + b"{}"])


def mutations(data: bytes, name: str, count: int) -> Iterator[bytes]:
    """Quick relatives of an input, the same ones for the same input; checksums are made right."""
    random = Random(zlib.crc32(data))
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(random.randrange(1, 4)):
            at = random.randrange(len(changed) + 1)
            kind = random.randrange(4)
            if kind == 0 and changed:
                changed[at % len(changed)] = random.randrange(256)
            elif kind == 1 and changed:
                changed[at % len(changed)] ^= 1 << random.randrange(8)
            elif kind == 2:
                del changed[at : at + random.randrange(1, 9)]
            else:
                changed[at:at] = changed[at : at + random.randrange(1, 33)]
        yield _MENDED.get(name, bytes)(changed)


def _mended_tokens(data: bytearray) -> bytes:
    if len(data) < _TOKEN_TAIL:
        return bytes(data)
    body = bytes(data[:-8])
    return body + struct.pack("<I4s", zlib.crc32(body), b"KTDE")


def _mended_state(data: bytearray) -> bytes:
    """With the sha256 of what its body is now, in the place of the one that is there."""
    n_bytes = int.from_bytes(data[:8], "little")
    found = bytes(data).find(b'"sha256": "')
    if found < 0 or 8 + n_bytes > len(data):
        return bytes(data)
    digest = hashlib.sha256(data[8 + n_bytes :]).hexdigest().encode()
    data[found + 11 : found + 11 + 64] = digest
    return bytes(data)


_TOKEN_TAIL = 16
_MENDED: Mapping[str, Callable[[bytearray], bytes]] = {
    "tokens": _mended_tokens,
    "state": _mended_state,
}

INPUTS: Mapping[str, Callable[[], Bytes]] = {
    each.__name__: each for each in (control, server, lock, config, manifest, tokens, wav, state)
}
