from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from apps.privacy.bpf import MACHINES
from apps.privacy.processes import look_at
from apps.privacy.witness import first
from tests.apps.privacy.sealed_world import clean_env, needs_namespaces, probe, run_python

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the seal of Linux"),
    pytest.mark.skipif(platform.machine() not in MACHINES, reason="no filter for this processor"),
]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    tmp_path.chmod(0o777)
    return folder


def test_every_planted_leak_is_refused_when_sealed(home: Path) -> None:
    found = probe("sealed", home)
    assert found["fault"] == ""
    assert "seccomp" in found["mechanisms"]
    assert {"python_socket", "native_socket", "child_process", "io_uring"} <= set(found["leaks"])
    assert [name for name, said in found["leaks"].items() if said == "escaped"] == []


def test_the_planted_leaks_do_leak_where_nothing_is_enforced(home: Path) -> None:
    """Without this the test above could be green while it observes nothing."""
    code = (
        "from apps.privacy.probe import *; print(native_socket(), python_socket(), child_process())"
    )
    done = run_python(code, home)
    assert done.stdout.split() == ["None"] * 3, done.stderr


def test_loopback_is_alone_with_itself(home: Path) -> None:
    needs_namespaces()
    found = probe("loopback", home)
    assert found["fault"] == ""
    assert [name for name, said in found["leaks"].items() if said == "escaped"] == []
    code = (
        "from apps.privacy.seal import seal; seal('loopback')\n"
        "import socket; s = socket.create_server(('127.0.0.1', 0))\n"
        "c = socket.create_connection(s.getsockname()); c.sendall(b'hello')\n"
        "print(s.accept()[0].recv(9))"
    )
    assert run_python(code, home).stdout.strip() == "b'hello'"


def test_what_was_refused_is_written_down_whoever_tried(home: Path) -> None:
    code = (
        "from apps.privacy.seal import seal; print(seal('sealed').recorded)\n"
        "import ctypes, subprocess, sys, time\n"
        "from apps.privacy.witness import last_refusal\n"
        "ctypes.CDLL(None).socket(10, 1, 0)\n"
        "subprocess.run([sys.executable, '-S', '-c', 'import socket; socket.socket()'])\n"
        "until = time.monotonic() + 100\n"
        "while time.monotonic() < until:\n"
        "    if (found := last_refusal()) and found.n_so_far == 2: break\n"
        "print(found.what, found.n_so_far)"
    )
    lines = run_python(code, home).stdout.splitlines()
    if lines[0] == "False":
        pytest.skip("this kernel has no listener for filters")
    assert lines == ["True", "socket AF_INET", "2"] or lines == ["True", "socket AF_INET 2"]


def test_a_user_without_rights_is_held_to_it_too(home: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become nobody")
    code = (
        "from apps.privacy import hide, kernel, witness\n"
        "from apps.privacy.seal import seal; from apps.privacy.probe import try_leaks\n"
        "import ctypes, os, json; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "ctypes.CDLL(None).prctl(4, 1)  # readable by itself again, as after a login\n"
        "seal('sealed'); print(json.dumps(try_leaks('sealed')))"
    )
    leaks = json.loads(run_python(code, home).stdout)
    leaks.pop("child_process")  # nobody may not start this Python everywhere
    assert "native_socket" in leaks
    assert "escaped" not in leaks.values()


def test_a_foreign_architecture_ends_the_process(home: Path) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("the way in is x86's int 0x80")
    # mov eax, 20 (getpid of i386); int 0x80; ret
    code = (
        "from apps.privacy.seal import seal; seal('sealed')\n"
        "import ctypes, mmap\n"
        "page = mmap.mmap(-1, 4096, prot=7); page.write(bytes.fromhex('b814000000cd80c3'))\n"
        "at = ctypes.addressof(ctypes.c_char.from_buffer(page))\n"
        "print('before', flush=True); ctypes.CFUNCTYPE(ctypes.c_int)(at)(); print('after')"
    )
    done = run_python(code, home)
    assert done.stdout.split() == ["before"]
    assert done.returncode == -31  # SIGSYS


def test_an_open_network_socket_from_before_is_refused_and_a_listener_is_kept(home: Path) -> None:
    client = (
        "import socket; from apps.privacy.seal import seal; s = socket.socket(); seal('sealed')"
    )
    done = run_python(client, home)
    assert "network socket from before the seal" in done.stderr
    server = (
        "import socket; from apps.privacy.seal import seal\n"
        "s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)\n"
        "seal('sealed'); c, _ = s.accept(); c.sendall(b'inbound only')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", server], stdout=subprocess.PIPE, text=True, env=clean_env(home)
    ) as running:
        assert running.stdout is not None
        port = int(running.stdout.readline())
        ask = f"import socket; print(socket.create_connection(('127.0.0.1', {port})).recv(99))"
        said = run_python(ask, home)
    assert said.stdout.strip() == "b'inbound only'"


_NSCD = """
import os, socket, subprocess, sys, threading
os.makedirs("/run/nscd", exist_ok=True)
libc = __import__("ctypes").CDLL(None)
assert libc.mount(b"tmpfs", b"/run/nscd", b"tmpfs", 0, None) == 0
server = socket.socket(socket.AF_UNIX); server.bind("/run/nscd/socket"); server.listen()
asked = []
def serve():
    while True:
        client, _ = server.accept(); asked.append(1); client.close()
threading.Thread(target=serve, daemon=True).start()
ask = "import socket\\ntry: socket.getaddrinfo('leak.invalid', 80)\\nexcept OSError: pass\\n"
if sys.argv[1] == "sealed":
    ask = "from apps.privacy.seal import seal; seal('sealed')\\n" + ask
if sys.argv[1] == "filter":
    ask = ("from apps.privacy import seal as s, hide; import os; from pathlib import Path\\n"
           "s._enter_namespaces = lambda *_: ((), ('refused for this test',))\\n"
           "found = s.seal('sealed'); assert '/run/nscd/socket' in found.reachable, found\\n") + ask
done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
print(len(asked) > (1 if sys.argv[1] == "filter" else 0), done.stderr[-300:])
"""


@pytest.mark.parametrize(
    ("how", "asked"), [("off", "True"), ("sealed", "False"), ("filter", "True")]
)
def test_getaddrinfo_reaches_no_name_service(home: Path, how: str, asked: str) -> None:
    """off: it does ask. filter: where namespaces are refused it asks too, and the seal says so."""
    if os.getuid() != 0:
        pytest.skip("only root can plant a name service")
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", sys.executable, "-c", _NSCD, how],
        capture_output=True, text=True, check=False, env=clean_env(home), timeout=120,
    )  # fmt: skip
    if done.returncode and "unshare" in done.stderr:
        pytest.skip("this system allows no mount namespace")
    assert done.stdout.split()[:1] == [asked], done.stdout + done.stderr


def test_the_audit_sees_what_a_process_has_open(tmp_path: Path) -> None:
    import socket

    here = tmp_path / "written"
    with socket.create_server(("127.0.0.1", 0)) as server, here.open("w"):
        found = look_at(os.getpid())
        port = server.getsockname()[1]
    assert found is not None
    assert found.sockets["INET"] >= 1
    assert f"tcp port {port}" in found.listening
    assert str(here) in found.written
    assert look_at(os.getpid(), ours=[tmp_path.parent]) is not None
    assert look_at(2**22 + 1) is None


def test_a_slow_witness_takes_the_word_to_begin_before_the_calls_after_it() -> None:
    """It was sent first; found together with a call, it must not come second."""
    call, word = (5, 1), (9, 1)
    assert first([call, word], 9) == [word, call]
    assert first([call], 9) == [call]


def test_a_seal_stands_behind_a_service_manager_s_own_filter(tmp_path: Path) -> None:
    """RestrictAddressFamilies= of systemd answers before ours does, in other words."""
    done = run_python(
        f"""
import errno, platform, struct
from dataclasses import replace
from pathlib import Path
from apps.privacy import kernel
from apps.privacy.bpf import FAMILIES, MACHINES, program
from apps.privacy.seal import seal

machine = MACHINES[platform.machine()]
calls = {{name: machine.calls[name] for name in ("socket", "socketpair")}}
code = program(replace(machine, calls=calls), FAMILIES["sealed"], notify=False)
ours, theirs = (struct.pack("=I", 0x50000 | e) for e in (errno.EACCES, errno.EAFNOSUPPORT))
assert code.count(ours) == 2
kernel.no_new_privs()
kernel.install_filter(code.replace(ours, theirs), listener=False)
print(seal("sealed", record_to=Path({str(tmp_path / "refused.json")!r})).mechanisms)
""",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "seccomp" in done.stdout
