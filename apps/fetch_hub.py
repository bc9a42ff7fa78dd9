"""Fetch a file of a model hub over https, going on where an interrupted download ended.

Only `edge models fetch NAME` comes here. No token is read and none is sent; the address, its
redirects and the server's answer decide nothing: the hash in the lock does.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import IO

from apps.fetch_files import Progress, check_room, full_disk_told, move_in, write_all
from edge.errors import FetchError, ModelDamagedError
from edge.hashing import sha256_of
from edge.lock import HfSource, LockFile

HUB = "https://huggingface.co"

_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 30
_LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
_LOST = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError)


def download_file(
    source: HfSource,
    file: LockFile,
    target: Path,
    *,
    partial: Path,
    progress: Progress,
    free_bytes: Callable[[Path], int],
    hub: str = HUB,
) -> None:
    """Bring one file to `target`, through `partial`/*.part, which an interrupt leaves for later.

    hub: https address, or http for this machine only. Raises FetchError, and ModelDamagedError
    for bytes that are not the file of the lock.
    """
    url = _address(hub, source, file)
    part = partial / f"{file.sha256}.part"
    kept_bytes = part.stat().st_size if part.exists() else 0
    from_start = kept_bytes == 0
    while True:
        whole = _go_on(url, part, file, progress=progress, free_bytes=free_bytes)
        if not whole and part.stat().st_size > kept_bytes:
            kept_bytes = part.stat().st_size  # something came: try on
            continue
        if not whole:
            raise FetchError(
                f"the connection for {file.path} was lost; run the command again, it goes on "
                f"after {part.stat().st_size} bytes"
            )
        got = sha256_of(part)
        if got == file.sha256:
            return move_in(part, target)
        part.unlink()
        if from_start:
            raise ModelDamagedError(
                f"{file.path} from {source.repository} is not the file of the lock (sha256 "
                f"{got[:12]}, lock says {file.sha256[:12]}); it is not used"
            )
        kept_bytes, from_start = 0, True  # the kept beginning may be at fault: once more


def _address(hub: str, source: HfSource, file: LockFile) -> str:
    address = urllib.parse.urlsplit(hub)
    if address.scheme != "https" and address.hostname not in _LOCAL_HOSTS:
        raise FetchError(f"the model hub's address must begin with https, not {hub!r}")
    path = urllib.parse.quote(
        f"{source.repository}/resolve/{source.revision}/{source.prefix}{file.path}"
    )
    return f"{hub.rstrip('/')}/{path}"


class _SafeRedirect(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to something less."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if req.type == "https" and urllib.parse.urlsplit(newurl).scheme != "https":
            raise FetchError(f"the model hub redirects to an address without https: {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _go_on(
    url: str,
    part: Path,
    file: LockFile,
    *,
    progress: Progress,
    free_bytes: Callable[[Path], int],
) -> bool:
    """Append to the part what is still to come; False if the connection was lost on the way."""
    done_bytes = part.stat().st_size if part.exists() else 0
    if file.size_bytes is not None and done_bytes >= file.size_bytes:
        return True
    request = urllib.request.Request(url, headers={"User-Agent": "edgevoice"})  # noqa: S310 - https, see _address
    if done_bytes:
        request.add_header("Range", f"bytes={done_bytes}-")
    opener = urllib.request.build_opener(_SafeRedirect)
    try:
        answer = opener.open(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return True  # nothing more to come: the hash tells whether it is whole
        raise _refusal(error.code, url) from error
    except _LOST as error:
        reason = getattr(error, "reason", None) or error
        raise FetchError(
            f"no network: {url} cannot be reached ({reason})", hopeless=True
        ) from error
    with answer:
        if answer.status != HTTPStatus.PARTIAL_CONTENT:
            done_bytes = 0  # the server sends it from the start
        coming_bytes = int(answer.headers.get("Content-Length") or 0)
        whole_bytes = done_bytes + coming_bytes if coming_bytes else file.size_bytes
        if file.size_bytes is not None and whole_bytes != file.size_bytes:
            raise ModelDamagedError(
                f"{file.path}: the model hub has {whole_bytes} bytes, the lock says "
                f"{file.size_bytes}; it is not used"
            )
        check_room([(part.parent, coming_bytes)], free_bytes=free_bytes)
        return _receive(answer, part, done_bytes, whole_bytes, progress)


def _receive(
    answer: http.client.HTTPResponse,
    part: Path,
    done_bytes: int,
    whole_bytes: int | None,
    progress: Progress,
) -> bool:
    """Write what comes; False if it ended before `whole_bytes` (None: the end is the end)."""
    with full_disk_told(part):
        stream = part.open("r+b" if done_bytes else "wb", buffering=0)
    with stream:
        stream.seek(done_bytes)
        while True:
            try:
                chunk = answer.read(_CHUNK_BYTES)
            except _LOST:
                return False
            if not chunk:
                return whole_bytes is None or done_bytes >= whole_bytes
            if whole_bytes is not None and done_bytes + len(chunk) > whole_bytes:
                return True  # longer than it may be: the hash says so
            with full_disk_told(part):
                write_all(stream, chunk)
            done_bytes += len(chunk)
            progress(done_bytes)


def _refusal(code: int, url: str) -> FetchError:
    if code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return FetchError(f"the model hub gives {url} only to people who agreed to its terms")
    if code == HTTPStatus.NOT_FOUND:
        return FetchError(f"the model hub has no {url}")
    return FetchError(f"the model hub answered {code} for {url}")
