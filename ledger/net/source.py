"""A published log over HTTP: what the architecture allows of it, and no more.

Implements the reading side of C2SP tlog-tiles over RFC 9110: one GET per file below one address,
and 200 is the one status that brings a file. 404 and 410 say that there is none. Everything else is
no answer: another status, a redirect, a body that is shorter than it said, an answer that takes
longer than the time limit as a whole (ledger/net/http.py). Bodies are read up to the largest size
of such a file (ledger/source.py) and no further. Nothing that a server says is repeated in an
error.

Over plain HTTP anybody on the way sees what is read and can change it. Neither matters for what is
published and signed; `ledger.replay.read_entries` finds out. Tested in tests/ledger/test_source.py.
"""

from __future__ import annotations

from http import HTTPStatus

from ledger.errors import NoAnswer, SourceMissing, SourceUnreachable
from ledger.net.http import HttpClient, checked_address
from ledger.source import require_size, size_limit

TIMEOUT = 30.0
"""Seconds that one file may take."""

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
        self._base = checked_address(url, "a published log")
        self._client = HttpClient(timeout)

    def read(self, path: str) -> bytes:
        """Return a file; see `ledger.source.Source.read`."""
        limit = size_limit(path)
        try:
            answer = self._client.get(self._base + path, limit)
        except NoAnswer as cause:
            raise SourceUnreachable(path, str(cause)) from cause
        if answer.status in _GONE:
            raise SourceMissing(path)
        if answer.status != HTTPStatus.OK:
            raise SourceUnreachable(path, f"the answer has status {answer.status}")
        return require_size(path, answer.body, limit)
