"""HTTP as this room speaks it: one exchange with one address, bounded in time and in bytes.

Implements of RFC 9110 what a published log and a witness need: GET and POST over http and https.

- time: connecting has a limit, and then again the answer as a whole, not only between two bytes
- bytes: a body is read up to a limit and no further, and only where its status is asked for
- a redirect is an answer like any other, and is not followed: an address that has moved is for the
  operator to change
- nothing that a server says is repeated in an error

Proxies are taken from the environment, as everywhere in Python. Tested in
tests/ledger/test_source.py and tests/ledger/test_witness_client.py.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Collection
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast
from urllib.parse import urlsplit

from ledger.errors import Malformed, NoAnswer

OK = (HTTPStatus.OK,)

_BROKEN = "the answer breaks off or is not HTTP"
_SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What a server answered.

    Attributes:
        status: 100 to 999.
        content_type: as sent; empty where there is none.
        body: up to one byte above the limit; empty where the status was not one to read.
    """

    status: int
    content_type: str
    body: bytes


class HttpClient:
    """Exchanges one request for one answer.

    Args:
        timeout: seconds that connecting may take, and then again the whole answer.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._opener = urllib.request.build_opener(_Http, _Https, _AnyStatus)

    def get(self, url: str, limit: int, statuses: Collection[int] = OK) -> HttpAnswer:
        """Return what an address answers.

        Args:
            url: that `checked_address` returned, or a path below it.
            limit: bytes; one more is read, so that the caller sees that there are more.
            statuses: with which the body is read.

        Raises:
            NoAnswer: nothing that is an answer came in time.
        """
        return self._exchange(urllib.request.Request(url), limit, statuses)  # noqa: S310 - checked

    def post(
        self, url: str, body: bytes, content_type: str, limit: int, statuses: Collection[int]
    ) -> HttpAnswer:
        """Send a body and return what an address answers; see `get`."""
        headers = {"Content-Type": content_type}
        request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310 - checked
        return self._exchange(request, limit, statuses)

    def _exchange(
        self, request: urllib.request.Request, limit: int, statuses: Collection[int]
    ) -> HttpAnswer:
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                body, left = b"", None
                if response.status in statuses:
                    body, left = cast(bytes, response.read(limit + 1)), response.length
                content_type = response.headers.get("Content-Type", "")
                answer = HttpAnswer(response.status, content_type, body)
        except TimeoutError as cause:
            raise self._late() from cause
        except urllib.error.URLError as cause:
            if isinstance(cause.reason, TimeoutError):
                raise self._late() from cause
            raise NoAnswer("there is no connection") from cause
        except (OSError, http.client.HTTPException, ValueError):
            # Not chained: what is caught may carry a line of the server's.
            raise NoAnswer(_BROKEN) from None
        if left and len(body) <= limit:
            raise NoAnswer(_BROKEN)
        return answer

    def _late(self) -> NoAnswer:
        return NoAnswer(f"no whole answer within {self._timeout:g} seconds")


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


class _AnyStatus(urllib.request.HTTPErrorProcessor):
    """Hands every status to the caller: no redirect is followed and no error page is read."""

    def http_response(
        self, request: urllib.request.Request, response: http.client.HTTPResponse
    ) -> http.client.HTTPResponse:
        return response

    https_response = http_response


def checked_address(url: str, what: str) -> str:
    """Return an address with its final slash.

    It is not repeated in the error, since people paste addresses with passwords in them.

    Args:
        url: http or https, of a folder; without user name, query and fragment.
        what: whose address, for the error, such as "a published log".

    Raises:
        Malformed: any other address.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as cause:
        raise Malformed(f"not the address of {what}") from cause
    if (
        parts.scheme not in _SCHEMES
        or not parts.hostname
        or "@" in parts.netloc
        or parts.query
        or parts.fragment
        or not url.isascii()
        or any(character <= " " for character in url)
    ):
        raise Malformed(f"not the address of {what}: http or https, host and path alone")
    return url.rstrip("?#/") + "/"
