"""A published log over HTTP: what the architecture allows of it, and no more.

Implements the reading side of C2SP tlog-tiles over RFC 9110: one GET per file below one address,
and 200 is the one status that brings a file. 404 and 410 say that there is none. Everything else is
no answer: another status, a redirect, a body that is shorter than it said, an answer that takes
longer than the time limit as a whole, not only between two bytes. Bodies are read up to the largest
size of such a file (ledger/source.py) and no further. Proxies are taken from the environment, as
everywhere in Python. Nothing that a server says is repeated in an error.

Over plain HTTP anybody on the way sees what is read and can change it. Neither matters for what is
published and signed; `ledger.replay.read_entries` finds out. Tested in tests/ledger/test_source.py.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
import urllib.error
import urllib.request
from email.message import Message
from http import HTTPStatus
from typing import IO, cast
from urllib.parse import urlsplit

from ledger.errors import Malformed, SourceMissing, SourceUnreachable
from ledger.source import require_size, size_limit

TIMEOUT = 30.0
"""Seconds that one file may take."""

_NO_ANSWER = "the answer breaks off or is not HTTP"
_SCHEMES = ("http", "https")
_GONE = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)


class HttpSource:
    """A published log behind an address.

    Args:
        url: http or https, of the folder that holds `checkpoint` and `tile`; without user name,
            query and fragment.
        timeout: seconds that connecting may take, and then again the whole answer.

    Raises:
        Malformed: any other address.
    """

    def __init__(self, url: str, timeout: float = TIMEOUT) -> None:
        self._base = _checked(url)
        self._timeout = timeout
        self._opener = urllib.request.build_opener(_Http, _Https, _NoRedirect)

    def read(self, path: str) -> bytes:
        """Return a file; see `ledger.source.Source.read`."""
        limit = size_limit(path)
        try:
            with self._opener.open(self._base + path, timeout=self._timeout) as response:
                status = response.status
                data = cast(bytes, response.read(limit + 1))
                left = response.length
        except urllib.error.HTTPError as error:
            error.close()
            status, data, left = error.code, b"", None
        except TimeoutError as cause:
            raise self._late(path) from cause
        except urllib.error.URLError as cause:
            if isinstance(cause.reason, TimeoutError):
                raise self._late(path) from cause
            raise SourceUnreachable(path, "there is no connection") from cause
        except (OSError, http.client.HTTPException, ValueError):
            # Not chained: what is caught may carry a line of the server's.
            raise SourceUnreachable(path, _NO_ANSWER) from None
        if status in _GONE:
            raise SourceMissing(path)
        if status != HTTPStatus.OK:
            raise SourceUnreachable(path, f"the answer has status {status}")
        require_size(path, data, limit)
        if left:
            raise SourceUnreachable(path, _NO_ANSWER)
        return data

    def _late(self, path: str) -> SourceUnreachable:
        return SourceUnreachable(path, f"no whole answer within {self._timeout:g} seconds")


class _Timed(io.RawIOBase):
    """What a socket receives until a moment: a server that drips is as late as a silent one."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        timeout = sock.gettimeout()
        self._until = None if timeout is None else time.monotonic() + timeout

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int | None:  # type: ignore[override]
        if self._until is not None:
            left = self._until - time.monotonic()
            if left <= 0:
                raise TimeoutError("the answer took too long")
            self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(
        self,
        sock: socket.socket,
        debuglevel: int = 0,
        method: str | None = None,
        url: str | None = None,
    ) -> None:
        super().__init__(sock, debuglevel, method, url)
        self.fp.close()
        self.fp = io.BufferedReader(_Timed(sock))


class _HttpConnection(http.client.HTTPConnection):
    response_class = _Response


class _HttpsConnection(http.client.HTTPSConnection):
    response_class = _Response


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpConnection, req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpsConnection, req, context=ssl.create_default_context())


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> None:
        """Follow none: an address that has moved is for the operator to change."""


def _checked(url: str) -> str:
    """Return an address with its final slash.

    It is not repeated in the error, since people paste addresses with passwords in them.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as cause:
        raise Malformed("not the address of a published log") from cause
    if (
        parts.scheme not in _SCHEMES
        or not parts.hostname
        or "@" in parts.netloc
        or parts.query
        or parts.fragment
        or not url.isascii()
        or any(character <= " " for character in url)
    ):
        raise Malformed("not the address of a published log: http or https, host and path alone")
    return url.rstrip("?#/") + "/"
