"""A published log over HTTP: the files of one folder, read-only, as an ASGI application.

Implements the serving side of C2SP tlog-tiles ("APIs") with Starlette. Served are `/checkpoint` and
the paths that `ledger.tiles.parse_path` takes, byte for byte: a query, a percent-encoded character,
a doubled slash or a dot segment make another path, and another path is 404. There is no listing.

    method     GET and HEAD; 405 for every other
    checkpoint text/plain; charset=utf-8   Cache-Control: no-cache
    others     application/octet-stream    Cache-Control: public, max-age=31536000, immutable
    404, 405                               Cache-Control: no-cache, since a file may come
    ETag       the SHA-256 of what is sent; `If-None-Match` with it gives 304
    bundles    gzip when `Accept-Encoding` asks for it; tiles are hashes and do not compress

`Access-Control-Allow-Origin: *` lets a page of any origin read, so that an auditor can verify in a
browser. It gives nothing away that is not public, there are no cookies or credentials that a page
could borrow, and whatever is not a plain GET needs a preflight, which is refused (405).

The server reads the folder and nothing else: it opens no database and no vault and knows no
passphrase. Files are opened from the folder down without following a symbolic link, read up to the
largest size that such a file has, and anything but a plain file is 404. It keeps no state, so a new
export is seen at once. Tested in tests/ledger/test_logserver.py.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import stat
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.errors import Malformed, NotServed, SourceMissing
from ledger.net.bucket import CHECKPOINT_TYPE, FILE_TYPE, IMMUTABLE, MUTABLE
from ledger.source import CHECKPOINT, size_limit
from ledger.tiles import parse_path

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.responses import Response

_METHODS = ("GET", "HEAD")
_GZIP_LEVEL = 6
_ALWAYS = {"access-control-allow-origin": "*", "x-content-type-options": "nosniff"}
# What opening a name that is no plain file or folder can say.
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO)


class LogServer:
    """The ASGI application.

    Args:
        folder: as `kluis ledger export` wrote it. May itself be a symbolic link.

    Raises:
        NotServed: no checkpoint is published there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            _read(folder, CHECKPOINT)
        except SourceMissing as cause:
            raise NotServed(f"{folder} holds no published ledger") from cause

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        from starlette.concurrency import run_in_threadpool
        from starlette.datastructures import Headers

        raw = scope["raw_path"] + (b"?" if scope["query_string"] else b"")
        response = await run_in_threadpool(
            self._answer, scope["method"], raw.decode("latin-1"), Headers(scope=scope)
        )
        await response(scope, receive, send)

    def _answer(self, method: str, path: str, headers: Headers) -> Response:
        from starlette.responses import Response

        if method not in _METHODS:
            allow = {"allow": ", ".join(_METHODS), "cache-control": MUTABLE}
            return Response(status_code=HTTPStatus.METHOD_NOT_ALLOWED, headers=_ALWAYS | allow)
        try:
            # A target that does not begin with a slash names no file either.
            name = path[1:] if path.startswith("/") else ""
            body = _body(self._folder, name, headers.get("accept-encoding", ""))
        except (Malformed, SourceMissing):
            none = {"cache-control": MUTABLE}
            return Response(status_code=HTTPStatus.NOT_FOUND, headers=_ALWAYS | none)
        if body.is_held(headers.get("if-none-match", "")):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=_ALWAYS | body.headers)
        return Response(body.data, headers=_ALWAYS | body.headers, media_type=body.media_type)


@dataclass(frozen=True, slots=True)
class _Body:
    """What is sent of a file."""

    data: bytes
    media_type: str
    headers: dict[str, str]

    def is_held(self, if_none_match: str) -> bool:
        """Tell whether the client has it (RFC 9110 section 13.1.2, weak comparison)."""
        tags = [one.strip().removeprefix("W/") for one in if_none_match.split(",")]
        return self.headers["etag"] in tags or tags == ["*"]


def _body(folder: Path, path: str, accepted: str) -> _Body:
    """Return what to send.

    Raises:
        Malformed: no file of a published log has that path.
        SourceMissing: the folder has no such file.
    """
    data = _read(folder, path)
    is_checkpoint = path == CHECKPOINT
    headers = {"cache-control": MUTABLE if is_checkpoint else IMMUTABLE}
    if not is_checkpoint and parse_path(path).level is None:
        headers["vary"] = "accept-encoding"
        if _takes_gzip(accepted):
            data = gzip.compress(data, _GZIP_LEVEL, mtime=0)
            headers["content-encoding"] = "gzip"
    headers["etag"] = f'"{hashlib.sha256(data).hexdigest()}"'
    return _Body(data, CHECKPOINT_TYPE if is_checkpoint else FILE_TYPE, headers)


def _takes_gzip(accepted: str) -> bool:
    """Tell whether Accept-Encoding names gzip, and not with weight 0 (RFC 9110 section 12.5.3)."""
    for one in accepted.lower().split(","):
        coding, _, weight = one.replace(" ", "").partition(";q=")
        if coding == "gzip":
            return weight.strip("0.") != "" or not weight
    return False


def _read(folder: Path, path: str) -> bytes:
    """Return a file of the folder, following no symbolic link below it."""
    limit = size_limit(path)
    *folders, name = path.split("/")
    with ExitStack() as opened:

        def open_one(part: str | Path, flags: int, within: int | None) -> int:
            descriptor = os.open(part, flags | os.O_RDONLY | os.O_CLOEXEC, dir_fd=within)
            opened.callback(os.close, descriptor)
            return descriptor

        try:
            place = open_one(folder, os.O_DIRECTORY, None)
            for part in folders:
                place = open_one(part, os.O_DIRECTORY | os.O_NOFOLLOW, place)
            # Non-blocking: opening a pipe would wait for a writer.
            file = open_one(name, os.O_NOFOLLOW | os.O_NONBLOCK, place)
        except OSError as cause:
            if cause.errno not in _NO_FILE:
                raise
            raise SourceMissing(path) from cause
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise SourceMissing(path)
        with os.fdopen(os.dup(file), "rb") as reader:
            data = reader.read(limit + 1)
    if len(data) > limit:
        raise SourceMissing(path)
    return data
