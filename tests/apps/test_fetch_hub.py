"""The model hub: downloads go on where they ended, and only the hash of the lock counts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from apps.fetch import FetchOptions, fetch_models
from edge.lock import HfSource
from edge.store import ModelStore
from tests.apps.models_world import WEIGHTS, Recorder, entry, lock_file, make_store, placed

FILE = lock_file("weights.bin", WEIGHTS)
ADDRESS = "/somebody/model/resolve/0123abc/deep/weights.bin"


@dataclass
class Hub:
    """A hub on this machine. drops: after how many bytes each answer's connection is cut."""

    content: bytes = WEIGHTS
    status: int = 200
    resumable: bool = True
    drops: list[int] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def hub() -> Iterator[Hub]:
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked_range = self.headers.get("Range")
            state.asked.append((self.path, asked_range))
            if state.status != 200:
                self.send_error(state.status)
                return
            start = int(asked_range[6:-1]) if asked_range and state.resumable else 0
            body = state.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.drops.pop(0)] if state.drops else body)
            self.close_connection = True

        def log_message(self, *args: object) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    source = HfSource(("weights.bin",), "somebody/model", "0123abc", "deep/")
    return make_store(tmp_path / "models", entry("hubbed", {"weights.bin": WEIGHTS}, source))


def fetch(store: ModelStore, hub: Hub, *, allow_hub: bool = True) -> str:
    options = FetchOptions(store.root / "cache", allow_hub=allow_hub, hub=hub.address)
    (result,) = fetch_models(store, ["hubbed"], options, Recorder())
    return result.error


def part_of(store: ModelStore) -> Path:
    return store.root / ".partial" / f"{FILE.sha256}.part"


def test_a_file_is_fetched_at_its_revision(store: ModelStore, hub: Hub) -> None:
    assert fetch(store, hub) == ""
    assert placed(store.root) == {"hubbed/weights.bin": WEIGHTS}
    assert hub.asked == [(ADDRESS, None)]
    assert not part_of(store).exists()


def test_the_hub_is_not_asked_unless_allowed(store: ModelStore, hub: Hub) -> None:
    assert FILE.sha256 in fetch(store, hub, allow_hub=False)
    assert hub.asked == []


@pytest.mark.parametrize("resumable", [True, False])
def test_an_interrupted_download_goes_on(store: ModelStore, hub: Hub, resumable: bool) -> None:
    part_of(store).parent.mkdir(parents=True)
    part_of(store).write_bytes(WEIGHTS[:1_000_000])
    hub.resumable = resumable
    assert fetch(store, hub) == ""
    assert hub.asked == [(ADDRESS, "bytes=1000000-")]
    assert placed(store.root) == {"hubbed/weights.bin": WEIGHTS}


def test_a_connection_that_drops_is_taken_up_again(store: ModelStore, hub: Hub) -> None:
    hub.drops = [700_000, 600_000]
    assert fetch(store, hub) == ""
    ranges = [asked for _, asked in hub.asked]
    assert ranges == [None, "bytes=700000-", "bytes=1300000-"]
    assert placed(store.root) == {"hubbed/weights.bin": WEIGHTS}


def test_a_connection_that_gives_nothing_more_ends_with_the_beginning_kept(
    store: ModelStore, hub: Hub
) -> None:
    hub.drops = [700_000, 0]
    error = fetch(store, hub)
    assert "was lost" in error
    assert "goes on after 700000 bytes" in error
    assert placed(store.root) == {}
    assert part_of(store).read_bytes() == WEIGHTS[:700_000]
    assert fetch(store, hub) == ""


def test_a_wrong_beginning_is_thrown_away_and_fetched_anew(store: ModelStore, hub: Hub) -> None:
    part_of(store).parent.mkdir(parents=True)
    part_of(store).write_bytes(b"\xff" * 1_000)
    assert fetch(store, hub) == ""
    assert [asked for _, asked in hub.asked] == ["bytes=1000-", None]


def test_other_bytes_are_never_used(store: ModelStore, hub: Hub) -> None:
    hub.content = b"\1" + WEIGHTS[1:]
    assert "is not the file of the lock" in fetch(store, hub)
    assert len(hub.asked) == 1
    hub.content = WEIGHTS + b"more"
    assert "2560004 bytes, the lock says 2560000" in fetch(store, hub)
    assert placed(store.root) == {}
    assert not part_of(store).exists()


@pytest.mark.parametrize(
    ("status", "words"), [(404, "has no"), (401, "agreed to its terms"), (500, "answered 500")]
)
def test_a_refusal_is_told(store: ModelStore, hub: Hub, status: int, words: str) -> None:
    hub.status = status
    error = fetch(store, hub)
    assert words in error
    assert "edge models import PATH" in error


def test_no_network_is_told_with_what_to_bring(store: ModelStore) -> None:
    error = fetch(store, Hub(address="http://127.0.0.1:9"))
    assert "no network" in error
    assert FILE.sha256 in error


def test_an_address_without_encryption_is_refused(store: ModelStore) -> None:
    error = fetch(store, Hub(address="http://hub.invalid"))
    assert "must begin with https" in error
