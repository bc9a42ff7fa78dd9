from __future__ import annotations

import errno
import struct

import pytest

from apps.privacy.bpf import CHECKED_CALLS, FAMILIES, MACHINES, X32_BIT, Verdict, program

SEALED = FAMILIES["sealed"]
DENIED = Verdict.ERRNO | errno.EACCES


def run(code: bytes, *, nr: int, arch: int, family: int = 0) -> int:
    """The kernel's side: what a program answers to one call."""
    data = struct.pack("=IIQ6Q", nr, arch, 0, family, 0, 0, 0, 0, 0)
    steps = list(struct.iter_unpack("=HBBI", code))
    loaded, at = 0, 0
    while True:
        op, if_so, if_not, value = steps[at]
        at += 1
        if op == 0x20:
            (loaded,) = struct.unpack_from("=I", data, value)
        elif op == 0x15:
            at += if_so if loaded == value else if_not
        elif op == 0x35:
            at += if_so if loaded >= value else if_not
        else:
            assert op == 0x06
            return value


@pytest.mark.parametrize("name", MACHINES)
def test_only_unix_sockets_are_made_when_sealed(name: str) -> None:
    machine = MACHINES[name]
    code = program(machine, SEALED, notify=False)
    for call in CHECKED_CALLS:
        for family in range(64):
            said = run(code, nr=machine.calls[call], arch=machine.audit, family=family)
            assert said == (Verdict.ALLOW if family == 1 else DENIED)
        # The kernel reads an int: the upper half of the register must not matter.
        high = (7 << 32) | 2
        assert run(code, nr=machine.calls[call], arch=machine.audit, family=high) == DENIED


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("level", ["sealed", "loopback"])
def test_the_ways_around_are_denied_and_everything_else_is_allowed(name: str, level: str) -> None:
    machine = MACHINES[name]
    families = FAMILIES["sealed" if level == "sealed" else "loopback"]
    code = program(machine, families, notify=False)
    denied = {nr for call, nr in machine.calls.items() if call not in CHECKED_CALLS}
    for nr in range(600):
        if nr in {machine.calls[call] for call in CHECKED_CALLS}:
            continue
        want = DENIED if nr in denied else Verdict.ALLOW
        assert run(code, nr=nr, arch=machine.audit, family=2) == want, nr


@pytest.mark.parametrize("name", MACHINES)
def test_other_architectures_end_the_process(name: str) -> None:
    machine = MACHINES[name]
    code = program(machine, SEALED, notify=True)
    for arch in (0x4000_0003, 0x4000_0028, 0xC000_003E, 0xC000_00B7, 0):  # i386, arm, both, none
        said = run(code, nr=machine.calls["socket"], arch=arch, family=1)
        assert said == (Verdict.ALLOW if arch == machine.audit else Verdict.KILL)


def test_x32_numbers_do_not_exist() -> None:
    machine = MACHINES["x86_64"]
    code = program(machine, SEALED, notify=True)
    for nr in (0, 41, 425, 2**31 - 1 - X32_BIT):
        said = run(code, nr=nr | X32_BIT, arch=machine.audit, family=1)
        assert said == Verdict.ERRNO | errno.ENOSYS


def test_a_listener_is_asked_about_what_is_denied_and_nothing_else() -> None:
    machine = MACHINES["x86_64"]
    code = program(machine, SEALED, notify=True)
    assert run(code, nr=41, arch=machine.audit, family=2) == Verdict.NOTIFY
    assert run(code, nr=425, arch=machine.audit) == Verdict.NOTIFY
    assert run(code, nr=41, arch=machine.audit, family=1) == Verdict.ALLOW
    assert run(code, nr=0, arch=machine.audit) == Verdict.ALLOW
