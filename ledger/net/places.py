"""Places: where a published log is, as an operator names it.

A place is the address of a web server (`http://`, `https://`), a bucket (`s3://bucket/prefix`), or
else a folder of this machine. Reading goes from all three, publishing to the last two. Tested in
tests/ledger/test_bucket.py.
"""

from __future__ import annotations

from pathlib import Path

from ledger.destination import Destination, FolderDestination
from ledger.errors import Malformed
from ledger.net.bucket import SCHEME, BucketDestination, BucketSource
from ledger.net.source import HttpSource
from ledger.source import FolderSource, Source

_WEB = ("http://", "https://")


def source_at(place: str | Path) -> Source:
    """Return the published log at a place.

    Raises:
        Malformed: an address or a bucket that cannot be one. It is not repeated in the error.
    """
    named = str(place)
    if named.startswith(_WEB):
        return HttpSource(named)
    if named.startswith(SCHEME):
        return BucketSource(named)
    return FolderSource(Path(place))


def destination_at(place: str | Path) -> Destination:
    """Return the place to publish a log to.

    Raises:
        Malformed: a web server, a file, or a bucket that cannot be one.
    """
    named = str(place)
    if named.startswith(_WEB):
        raise Malformed("a log is published to a folder or to s3://bucket/prefix, not over HTTP")
    if named.startswith(SCHEME):
        return BucketDestination(named)
    if Path(place).is_file():
        raise Malformed(f"{place} is a file: a log is published to a folder of its own")
    return FolderDestination(Path(place))
