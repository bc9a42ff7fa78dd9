"""What every test run shares: quiet libraries, repeatable random tests, a header with versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from apps.cli.main import QUIET_ENV
from apps.privacy.seal import status_of
from edge.config import WakeConfig
from edge.lock import read_lock
from edge.store import ModelStore
from runtime.cores import available_cores

VERSIONS = ("numpy", "onnxruntime", "llama-cpp-python", "ctranslate2", "torch")


def pytest_configure() -> None:
    """Set what must be set before any heavy library is imported."""
    os.environ.update(QUIET_ENV)
    # A test of speed is a test of the machine; a random test that fails must fail again.
    settings.register_profile("edgevoice", deadline=None, derandomize=True)
    settings.load_profile("edgevoice")
    # Begun in the background by a shell, all programs of the tests would inherit that they ignore
    # an interrupt, and the tests that interrupt them would wait for ever.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure() -> None:
    """Close what llama_cpp leaves open, which would be told below pytest's closing line."""
    left_open = sys.modules.get("llama_cpp._utils")
    for name in ("outnull_file", "errnull_file"):
        if file := getattr(left_open, name, None):
            file.close()


def pytest_report_header() -> list[str]:
    """The machine and the versions that a failure may depend on."""
    found = []
    for name in VERSIONS:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} -")
    return [f"edgevoice: {platform.machine()}, {available_cores()} cores", ", ".join(found)]


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's own settings and state out of the tests, and the tests out of them."""
    home = tmp_path_factory.mktemp("edge")
    monkeypatch.setenv("EDGE_CONFIG_DIR", str(home / "config"))
    monkeypatch.setenv("EDGE_STATE_DIR", str(home / "state"))


@pytest.fixture(autouse=True)
def _nothing_seals_the_tests() -> Iterator[None]:
    """Fail the test that seals this very process: those after it would fail instead, far away."""
    before = _confinement()
    yield
    now = _confinement()
    assert now == before, (
        f"this test sealed the process that all tests run in ({before} became {now}): "
        "seal a child, or give --privacy off"
    )


def _confinement() -> dict[str, str]:
    """What a seal changes of a process for good; empty where there is no /proc."""
    facts = status_of("self")
    found = {key: facts[key] for key in ("Seccomp", "NoNewPrivs") if key in facts}
    for name in ("net", "mnt"):
        link = Path("/proc/self/ns", name)
        if link.is_symlink():
            found[name] = str(link.readlink())
    return found


@pytest.fixture(scope="session")
def starter_models() -> ModelStore:
    """The store that holds the starter models; the test is skipped where they were not fetched.

    With EDGE_REQUIRE_MODELS=1, as `make test` sets it, a missing model is a failure instead.
    """
    store = ModelStore(read_lock())
    return _with(store, [model.name for model in store.lock.models if model.starter])


@pytest.fixture(scope="session")
def quality_models() -> ModelStore:
    """As starter_models, for the networks that judge sound."""
    return _with(ModelStore(read_lock()), ["dnsmos", "plcmos", "ge2e-speaker"])


@pytest.fixture(scope="session")
def wake_models() -> ModelStore:
    """As starter_models, for the wake word."""
    return _with(ModelStore(read_lock()), [WakeConfig().model])


def _with(store: ModelStore, names: list[str]) -> ModelStore:
    missing = [
        name for name in names if set(store.status(name, hashed=False).values()) != {"present"}
    ]
    how = f"not on this machine: {', '.join(missing)}; edge models fetch {' '.join(missing)}"
    if missing and os.environ.get("EDGE_REQUIRE_MODELS") == "1":
        pytest.fail(how)
    if missing:
        pytest.skip(how)
    return store
